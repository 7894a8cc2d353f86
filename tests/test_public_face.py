"""The public names, pinned: a change here is a change for users."""

import exporters
import veriflow
import verify

FACES = {
    veriflow: """BASES Ball Box Calibration Flow History LevelSet Property Query RadialBase Table TrainingOptions USFlow
        VeriflowError calibrated_level_set classified_as fit flow_query formula_property load_flow make_base network_query
        never_confidently_wrong output_between parse_property read_table save_flow y""",
    exporters: """DEFAULT_FORMS FORMS MilpModel PortableForm TOOLS forms_for graph_to_onnx highs_model input_symbols
        linear_form milp_model milp_text paired_chain portable_form query_formula query_from_bytes query_to_bytes read_onnx
        run_onnx shifted_chain to_marabou to_smtlib to_vnnlib1 to_vnnlib2 two_networks write_bundle""",
    verify: """ENGINES Answers Certificate EngineInfo ExternalTool MEMORY_LIMIT Outcome RadialSearch Verdict Witness certify
        engine external_tool found_tools replay solver verify verify_with violation_probability violations_in_data""",
}


def test_the_faces_are_sorted_complete_and_as_pinned():
    for package, names in FACES.items():
        assert sorted(package.__all__) == sorted(names.split())
        assert all(getattr(package, name) is not None for name in package.__all__)
    assert veriflow.__version__
