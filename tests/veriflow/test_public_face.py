"""The public names, pinned: a change here is a change for users."""

import inspect

import exporters
import veriflow
import veriflow.extending
import veriflow.testing
import verify
from verify.cli.commands.fit import fit as fit_command
from verify.cli.commands.verify import verify as verify_command

FACES = {
    veriflow: """Affine Answers BASES Ball Box Calibration Certificate ENGINES Flow Graph History InterruptedSearch JointAnswers
        LevelSet Logits OnnxNetwork Outcome OutputRange Port Product Property Query RadialBase Reduction
        Relation Relu RoundedWitness Specification Table TrainingOptions TrimmedLevelSet USFlow Verdict
        VeriflowError ViolationBounds Witness abstains_outside calibrated_level_set certify classified_as
        compress confident equivalent evaluate evaluate_exact external_tool fair fit flow_query formula_property
        found_tools from_torch graph_to_onnx lipschitz load_flow make_base monotone network_query
        never_confident never_confidently_wrong output_between output_range parse_property parse_vnnlib
        read_logits read_network read_onnx read_table read_vnnlib reduce_query replay restricted_queries robust
        rounded_witness run_onnx same_decision save_flow specification_queries to_marabou to_smtlib to_vnnlib1
        to_vnnlib2 trimmed_for_proof trimmed_level_set verdict_at verdict_curve verify verify_all verify_with
        violation_bounds violation_probability violations_in_data write_bundle y""",
    veriflow.extending: """ADAPTERS AffineBijection BASES Bijection Bounds Chain Claim ENGINES EngineInfo ExternalTool FORMS
        Formula Importer LAWS Limits NormLaw OPERATORS OnnxTensor Operation PROPERTIES RadialBase Region ResidualBijection
        SimpleLaw TOOLS Tool ToolRun complete exact_number interval_bounds no_violation non_negative profile_outside
        symbolic_bounds unreadable""",
    veriflow.testing: """BASE_LAWS BIJECTION_LAWS NORM_LAWS check_base check_bijection check_bound check_engine check_norm_law
        check_operator check_property check_tool""",
    exporters: """DEFAULT_FORMS Ending EndingKind FORMS FileRun LogitEnding Logits MilpModel OnnxFile OnnxNetwork
        Port
        PortableForm TOOLS Tool
        bundle_tools forms_for graph_to_onnx highs_model input_symbols linear_form milp_model milp_text paired_chain
        parse_vnnlib
        portable_form query_formula query_from_bytes query_to_bytes read_logits read_network read_onnx read_vnnlib
        run_onnx shifted_chain to_marabou to_smtlib to_vnnlib1 to_vnnlib2 two_networks write_bundle""",
    verify: """AUTO Answers Certificate ENGINES EngineInfo ExternalTool InterruptedSearch JointAnswers Limits MEMORY_LIMIT
        OnnxRun Outcome OutputRange
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


def test_every_name_is_the_same_in_every_package_that_has_it():
    for package in (exporters, verify):
        for name in set(package.__all__) & set(veriflow.__all__):
            assert getattr(veriflow, name) is getattr(package, name)


def test_defaults_are_the_same_in_python_and_on_the_command_line():
    flow = {
        name: parameter.default for name, parameter in inspect.signature(veriflow.USFlow.__init__).parameters.items()
    }
    fit = {name: parameter.default for name, parameter in inspect.signature(fit_command).parameters.items()}
    assert fit["blocks"] == flow["blocks"]
    assert fit["hidden"] == ",".join(map(str, flow["hidden"]))
    assert (fit["householder"], fit["permute"]) == (flow["householder"], flow["permute"])
    asked = [
        inspect.signature(function).parameters
        for function in (veriflow.verify, veriflow.verify_with, veriflow.verify_all)
    ]
    assert asked[0]["name"].default == "auto"
    assert asked[1]["names"].default == asked[2]["names"].default == ("auto",)
    assert len({names["timeout"].default for names in asked}) == 1
    assert inspect.signature(verify_command).parameters["solvers"].default in ("auto", None)
