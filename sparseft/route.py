"""`python -m sparseft.route`: which model should answer?

    python -m sparseft.route ROUTER turns.jsonl --out routes.jsonl
    python -m sparseft.route ROUTER --serve --small URL MODEL --large URL MODEL --port 8100

A line of the input is an object with `text`, or with `user` and perhaps `system` and `state` (a
turn's last exchange and the state predicted so far), and perhaps `id`, `confidence` and `answer`
of the small model. A line of the output has the id, the route (small or large) and the score; a
line that cannot be read has an `error`, and the rest goes on.

`--serve` is an OpenAI-compatible proxy: see sparseft.routing.proxy. Keys come from environment
variables that are named with --small-key and --large-key, and from nowhere else.
As a library: `sparseft.routing.saved.load_router(folder).large(queries)`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparseft import files
from sparseft.errors import ConfigError, DataError, SparseftError

if TYPE_CHECKING:
    from sparseft.routing.router import Query
    from sparseft.routing.saved import SavedRouter

__all__ = ["main", "routes"]

_BATCH = 256
_KNOWN = {"id", "text", "user", "system", "state", "confidence", "answer"}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 0, 2 on a user error, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        return _serve(options) if options.serve else _batch(options)
    except SparseftError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sparseft.route", description="Route queries to a small or a large model."
    )
    parser.add_argument("router", metavar="ROUTER_DIR", help="a folder that a routing run wrote")
    parser.add_argument("queries", nargs="?", type=Path, metavar="JSONL", help="one query a line")
    parser.add_argument("--out", type=Path, metavar="JSONL", help="standard output without it")
    parser.add_argument(
        "--threshold", type=float, metavar="T", help="another than the router's own"
    )
    parser.add_argument("--serve", action="store_true", help="as an OpenAI-compatible proxy")
    for side in ("small", "large"):
        parser.add_argument(f"--{side}", nargs=2, metavar=("URL", "MODEL"), help="its upstream")
        parser.add_argument(f"--{side}-key", metavar="VARIABLE", help="that holds its key")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen to")
    parser.add_argument("--port", type=int, default=8100)
    return parser


def routes(saved: SavedRouter, lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The route of each line, in order; see the module's text for what a line holds."""
    read: list[tuple[str, Query | str]] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            read.append(_read(line, number, saved.router.needs_confidence))
    queries = [query for _, query in read if not isinstance(query, str)]
    scores = iter(saved.router.scores(queries).tolist() if queries else ())
    for name, query in read:
        if isinstance(query, str):
            yield {"id": name, "error": query}
            continue
        score = next(scores)
        route = "large" if score >= saved.threshold else "small"
        yield {"id": name, "route": route, "score": score}


def _read(line: str, number: int, needs_answer: bool) -> tuple[str, Query | str]:
    """The id and the query of a line, or what is wrong with it."""
    from sparseft.routing.router import Query
    from sparseft.routing.texts import query_of
    from sparseft.routing.turns import Context

    name = f"line {number}"
    try:
        content = json.loads(line)
        if not isinstance(content, Mapping):
            raise DataError(f"expected an object, got {type(content).__name__}.")
        name = str(content.get("id", name))
        unknown = sorted(set(content) - _KNOWN)
        if unknown:
            raise DataError(f"expected keys of {', '.join(sorted(_KNOWN))}, got {unknown[0]!r}.")
        if needs_answer and content.get("answer") is None:
            raise DataError("expected the small model's answer, which this router looks at.")
        text = content.get("text")
        if text is None:
            state, said = content.get("state") or {}, content.get("system") or ""
            if not isinstance(content.get("user"), str) or not isinstance(state, Mapping):
                raise DataError("expected text, or user with perhaps system and state.")
            text = query_of(Context(name, 0, said, content["user"], dict(state))).text
        if not isinstance(text, str) or not text.strip():
            raise DataError("expected a text that is not empty.")
        return name, Query(name, text, name, content.get("confidence"), content.get("answer"))
    except (ValueError, AttributeError) as error:
        return name, str(error)


def _load(options: argparse.Namespace) -> SavedRouter:
    import dataclasses

    from sparseft.routing.saved import load_router

    saved = load_router(options.router)
    if options.threshold is not None:
        saved = dataclasses.replace(saved, threshold=options.threshold)
    return saved


def _batch(options: argparse.Namespace) -> int:
    if options.queries is None:
        raise ConfigError("expected a file of queries, or --serve, got neither; give one.")
    try:
        lines = options.queries.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"expected queries at {options.queries}, got: {error}; give a JSONL file."
        ) from error
    saved = _load(options)
    found: list[dict[str, Any]] = []
    for start in range(0, len(lines), _BATCH):
        found.extend(routes(saved, lines[start : start + _BATCH]))
    text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in found)
    if options.out is None:
        sys.stdout.write(text)
    else:
        files.write_text(options.out, text)
    return 0


def _serve(options: argparse.Namespace) -> int:
    if options.small is None or options.large is None:
        raise ConfigError("expected --small URL MODEL and --large URL MODEL, got not both.")
    try:
        import uvicorn

        from sparseft.routing.proxy import Upstream, proxy_app
    except ImportError as error:
        raise ConfigError(
            f"expected the packages of a server, got: {error}; run `pip install 'sparseft[serve]'`."
        ) from error
    small = Upstream("small", options.small[0], options.small[1], options.small_key)
    large = Upstream("large", options.large[0], options.large[1], options.large_key)
    saved = _load(options)
    app = proxy_app(saved.router, saved.threshold, small, large)
    uvicorn.run(app, host=options.host, port=options.port, log_level="info")
    return 0


if __name__ == "__main__":
    sys.exit(main())
