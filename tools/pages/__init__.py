"""The parts of the documentation that `tools.generated_docs` writes from the code, a subject each."""
