"""SmolLM2's tokenizer, where its package is installed."""

from __future__ import annotations

from typing import Any

import pytest

from sparseft.compliance.decoding import Vocabulary
from sparseft.errors import ModelError
from sparseft.models import embedded_gguf


@pytest.fixture(scope="session")
def smollm2_tokenizer() -> Any:
    from transformers import AutoTokenizer

    try:
        file = embedded_gguf("smollm2")
    except ModelError as error:
        pytest.skip(f"needs the embedded SmolLM2: {error}")
    return AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)


@pytest.fixture(scope="session")
def smollm2_vocabulary(smollm2_tokenizer: Any) -> Vocabulary:
    return Vocabulary(smollm2_tokenizer, 49152)
