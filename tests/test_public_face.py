"""The public names, pinned: a change here is a change for users."""

import exporters
import veriflow
import verify

FACES = {
    veriflow: """BASES Ball Box Calibration Flow History LevelSet Property Query RadialBase Specification Table
        TrainingOptions USFlow VeriflowError calibrated_level_set classified_as fit flow_query formula_property load_flow
        make_base network_query never_confidently_wrong output_between parse_property read_table restricted_queries save_flow
        specification_queries y""",
    exporters: """Ending EndingKind MilpModel OnnxNetwork Port PortableForm graph_to_onnx input_symbols milp_model parse_vnnlib portable_form
        query_formula read_network read_onnx read_vnnlib run_onnx shifted_chain to_smtlib to_vnnlib1 to_vnnlib2 write_bundle""",
    verify: """ENGINES Certificate EngineInfo Outcome RadialSearch Verdict Witness certify engine replay verify
        violation_probability violations_in_data""",
}


def test_the_faces_are_sorted_complete_and_as_pinned():
    for package, names in FACES.items():
        assert sorted(package.__all__) == sorted(names.split())
        assert all(getattr(package, name) is not None for name in package.__all__)
    assert veriflow.__version__
