"""The parts of the test-kit that know engines and outside tools; users import them from ``veriflow.testing``."""
