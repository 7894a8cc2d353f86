"""The public names, pinned: a change here is a change for users."""

import exporters
import veriflow
import verify

FACES = {
    veriflow: """BASES Ball Box Calibration Flow History LevelSet Product Property Query RadialBase Relation Specification Table
        TrainingOptions USFlow VeriflowError abstains_outside calibrated_level_set classified_as confident equivalent
        fair fit flow_query formula_property lipschitz load_flow make_base monotone network_query never_confident
        never_confidently_wrong output_between parse_property read_table restricted_queries robust same_decision
        save_flow specification_queries y""",
    exporters: """Ending EndingKind LogitEnding MilpModel OnnxNetwork Port PortableForm graph_to_onnx input_symbols milp_model
        parse_vnnlib portable_form query_formula read_logits read_network read_onnx read_vnnlib run_onnx
        shifted_chain to_smtlib to_vnnlib1 to_vnnlib2 write_bundle""",
    verify: """Certificate ENGINES EngineInfo Outcome RadialSearch RoundedWitness Verdict Witness certify default_engine engine
        is_countable replay rounded_witness verify violation_probability violations_in_data""",
}


def test_the_faces_are_sorted_complete_and_as_pinned():
    for package, names in FACES.items():
        assert sorted(package.__all__) == sorted(names.split())
        assert all(getattr(package, name) is not None for name in package.__all__)
    assert veriflow.__version__
