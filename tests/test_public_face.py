"""The public names, pinned: a change here is a change for users."""

import exporters
import veriflow
import verify

FACES = {
    veriflow: """BASES Ball Box Calibration Flow History LevelSet Product Property Query RadialBase Relation Table
        TrainingOptions USFlow VeriflowError abstains_outside calibrated_level_set classified_as confident equivalent fair
        fit flow_query formula_property lipschitz load_flow make_base monotone network_query never_confident
        never_confidently_wrong output_between parse_property read_table robust same_decision save_flow y""",
    exporters: """MilpModel PortableForm graph_to_onnx input_symbols milp_model portable_form query_formula read_onnx
        run_onnx shifted_chain to_smtlib to_vnnlib1 to_vnnlib2 write_bundle""",
    verify: """ENGINES Certificate EngineInfo Outcome RadialSearch RoundedWitness Verdict Witness certify default_engine
        engine is_countable replay rounded_witness verify violation_probability violations_in_data""",
}


def test_the_faces_are_sorted_complete_and_as_pinned():
    for package, names in FACES.items():
        assert sorted(package.__all__) == sorted(names.split())
        assert all(getattr(package, name) is not None for name in package.__all__)
    assert veriflow.__version__
