"""An evaluator from the delta that a run saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparseft import files, models, sparse
from sparseft.compliance.answer import Reader
from sparseft.compliance.decision import Decision
from sparseft.compliance.decoder import DecoderReader
from sparseft.compliance.encoder import Chains, EncoderReader, plan_of
from sparseft.compliance.evaluator import FORMAT, Evaluator, import_rules
from sparseft.compliance.reading import Reading
from sparseft.compliance.schema import load_schema, schema_of
from sparseft.config import ModelConfig
from sparseft.errors import DeltaError

__all__ = ["SETTINGS_FILE", "load_evaluator"]

SETTINGS_FILE = "compliance.json"


def load_evaluator(
    folder: str | Path,
    schema: str | Path | None = None,
    *,
    rules: Sequence[str] = (),
    device: str = "cpu",
    batch_size: int = 1,
) -> Evaluator:
    """The evaluator of a finished run: base model, delta, schema, thresholds.

    Args:
        folder: a delta's folder, or its run's.
        schema: the schema that is expected, by name or file; it must be the one trained on. None
            takes the delta's own.
        rules: Python modules that register the schema's rules.
        device: such as "cpu" or "cuda".
        batch_size: transcripts read together.

    Raises:
        DeltaError: the folder holds no delta of a compliance run, a damaged one, or one of another
            schema or base model.
        ModelError: the base model is missing.
        ConfigError: a rule is missing.
    """
    path = Path(folder)
    path = path / "delta" if (path / "delta").is_dir() else path
    if not (path / SETTINGS_FILE).is_file():
        raise DeltaError(
            f"expected a delta of a compliance run at {path} (with {SETTINGS_FILE}), got none; "
            "give the folder that `python -m sparseft.run +experiment=compliance` names."
        )
    settings = files.read_json(path / SETTINGS_FILE, DeltaError)
    facts = files.read_json(path / "config.json", DeltaError)
    try:
        if settings["format"] != FORMAT:
            raise DeltaError(
                f"expected the format {FORMAT} in {path / SETTINGS_FILE}, got "
                f"{settings['format']!r}; use the version of sparseft that wrote it."
            )
        trained = schema_of(settings["schema"], str(path / SETTINGS_FILE))
        config = ModelConfig(**facts["extra"]["model"])
        decision = Decision.from_json(settings["decision"])
        length, kind = int(settings["max_length"]), str(settings["reader"])
        room = int(settings.get("answer_room", 0))
        fast_forward = bool(settings.get("fast_forward", True))
        apart = bool(settings.get("apart", False))
        heats = {n: float(each) for n, each in settings.get("heats", {}).items()}
        chains = {n: Chains.from_json(each) for n, each in settings.get("chains", {}).items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DeltaError(
            f"expected the settings of a compliance run in {path}, got: {error!r}; the files are "
            "damaged, finetune again."
        ) from error
    if schema is not None and load_schema(schema).to_mapping() != trained.to_mapping():
        raise DeltaError(
            f"expected a delta trained on the schema {schema}, got one of {trained.name!r} that "
            "differs; leave the schema out, or finetune on it."
        )
    import_rules(rules)
    reader: Reader
    if kind == EncoderReader.kind:
        read = models.load_segments(config, plan_of(trained, apart).layout)
        sparse.load_delta(read.model, path)
        reader = EncoderReader(
            read.model.to(device).eval(),
            trained,
            read.tokenizer,
            length,
            batch_size=batch_size,
            apart=apart,
            chains=chains,
            heats=heats,
        )
    elif kind == DecoderReader.kind:
        loaded = models.load_language(config)
        sparse.load_delta(loaded.model, path)
        reader = DecoderReader(
            loaded.model.to(device).eval(),
            Reading(trained, loaded.tokenizer, length, room),
            fast_forward=fast_forward,
            batch_size=batch_size,
        )
    else:
        raise DeltaError(
            f"expected a reader of {EncoderReader.kind} or {DecoderReader.kind} in "
            f"{path / SETTINGS_FILE}, got {kind!r}; the file is damaged, finetune again."
        )
    return Evaluator(
        reader,
        decision=decision,
        stamp=files.sha256_of(path / "delta.safetensors")[:16]
        + files.sha256_of(path / SETTINGS_FILE)[:16],
    )
