"""`python -m tests.conformance` writes docs/conformance.md."""

from tests.conformance.report import DOCUMENT, document

DOCUMENT.write_text(document())
