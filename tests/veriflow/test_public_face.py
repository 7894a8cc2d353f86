"""The public names, pinned: a change here is a change for users."""

import exporters
import veriflow
import verify

FACES = {
    veriflow: """BASES Ball Box Calibration Flow History LevelSet Product Property Query RadialBase Relation Specification
        Table TrainingOptions TrimmedLevelSet USFlow VeriflowError abstains_outside calibrated_level_set classified_as compress
        confident
        equivalent fair fit flow_query formula_property lipschitz load_flow make_base monotone network_query
        never_confident never_confidently_wrong output_between parse_property read_table restricted_queries robust
        same_decision save_flow specification_queries trimmed_level_set y""",
    exporters: """DEFAULT_FORMS Ending EndingKind FORMS FileRun LogitEnding Logits MilpModel OnnxFile OnnxNetwork Port
        PortableForm TOOLS forms_for graph_to_onnx highs_model input_symbols linear_form milp_model milp_text paired_chain
        parse_vnnlib
        portable_form query_formula query_from_bytes query_to_bytes read_logits read_network read_onnx read_vnnlib
        run_onnx shifted_chain to_marabou to_smtlib to_vnnlib1 to_vnnlib2 two_networks write_bundle""",
    verify: """AUTO Answers Certificate ENGINES EngineInfo ExternalTool InterruptedSearch JointAnswers MEMORY_LIMIT OnnxRun
        Outcome OutputRange
        RadialSearch RangeEnd Reduction RoundedWitness Verdict ViolationBounds Witness certify engine
        external_tool found_tools is_countable output_range reduce_query replay rounded_witness solver
        trimmed_for_proof verdict_at verdict_curve verify verify_all verify_with violation_bounds
        violation_probability violations_in_data""",
}


def test_the_faces_are_sorted_complete_and_as_pinned():
    for package, names in FACES.items():
        assert sorted(package.__all__) == sorted(names.split())
        assert all(getattr(package, name) is not None for name in package.__all__)
    assert veriflow.__version__
