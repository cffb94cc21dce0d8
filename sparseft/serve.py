"""`python -m sparseft.serve`: records of transcripts over HTTP.

    python -m sparseft.serve DELTA --schema service --port 8000
    curl -H 'Content-Type: application/json' -d '{"text": "Hello, …"}' localhost:8000/v1/evaluations

The page /docs describes the API. SIGTERM and Ctrl-C end it after the requests that were accepted.
There is no login: it listens to this machine only, unless --host says otherwise; put a proxy with
a login and TLS before it then. Logs have requests and times, and no words of a transcript.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sparseft.errors import ConfigError, SparseftError

if TYPE_CHECKING:
    from sparseft.compliance.serving import Evaluates

__all__ = ["main"]

_LOG = logging.getLogger(__name__)
_CONNECTIONS = 1000
_LEVELS = ("debug", "info", "warning", "error")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 0, 2 on a user error, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        return _run(options)
    except SparseftError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sparseft.serve",
        description="Serve the evaluator of a finished compliance run over HTTP.",
    )
    parser.add_argument("delta", metavar="DELTA_DIR", help="a delta's folder, or its run's")
    parser.add_argument(
        "--schema", metavar="S", default="delta", help="the expected schema; delta: its own"
    )
    parser.add_argument(
        "--rules", nargs="*", default=(), metavar="M", help="modules with the schema's own rules"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen to")
    parser.add_argument("--port", type=int, default=8000, help="0: any free one, see the log")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU; all by default")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="evaluated together")
    parser.add_argument("--queue", type=int, default=64, metavar="N", help="transcripts that wait")
    parser.add_argument("--max-bytes", type=int, default=1_000_000, metavar="N", help="of a body")
    parser.add_argument("--max-turns", type=int, default=2_000, metavar="N")
    parser.add_argument("--max-transcripts", type=int, default=32, metavar="N", help="of a list")
    parser.add_argument("--timeout", type=float, default=120.0, metavar="S", help="of a request")
    parser.add_argument("--log-level", choices=_LEVELS, default="info")
    return parser


def _run(options: argparse.Namespace) -> int:
    try:
        import uvicorn

        from sparseft.compliance.serving.service import make_app
    except ImportError as error:
        raise ConfigError(
            f"expected the packages of the service, got: {error}; pip install 'sparseft[serve]'."
        ) from error
    # Before the model is loaded, which takes a while: a port in use is told at once.
    with _bound(options.host, options.port) as listening:
        app = make_app(
            _evaluator(options),
            max_bytes=options.max_bytes,
            max_turns=options.max_turns,
            max_transcripts=options.max_transcripts,
            queue=options.queue,
            batch_size=options.batch_size,
            wait_seconds=options.timeout,
        )
        address = listening.getsockname()
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        _LOG.info("serving http://%s:%d, described at /docs", host, address[1])
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,  # the application's own lines have no addresses and queries
            lifespan="on",
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=int(options.timeout) + 1,
        )
        server = uvicorn.Server(config)
        with _sigterm_is_no_failure():
            server.run(sockets=[listening])
    return 0


def _evaluator(options: argparse.Namespace) -> Evaluates:
    import torch

    from sparseft.compliance.loading import load_evaluator
    from sparseft.compliance.transcript import Transcript, Turn
    from sparseft.training.devices import resolve_device

    if options.batch_size < 1 or (options.threads is not None and options.threads < 1):
        raise ConfigError(
            "expected --batch-size and --threads of 1 or more, got "
            f"{options.batch_size} and {options.threads}; change them."
        )
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    evaluator = load_evaluator(
        options.delta,
        None if options.schema == "delta" else options.schema,
        rules=options.rules,
        device=str(resolve_device(options.device)),
        batch_size=options.batch_size,
    )
    # A model that cannot answer is found now, and the first request does not wait for tables.
    evaluator.evaluate([Transcript("warm-up", (Turn("agent", "Good morning."),))])
    return evaluator


def _bound(host: str, port: int) -> socket.socket:
    """A socket of that address, which does not take connections yet."""
    if not 0 <= port <= 65535:
        # The system would take the rest of a division.
        raise ConfigError(f"expected --port from 0 to 65535, got {port}; change it.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise _not_free(host, port, error) from error
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except (OSError, OverflowError) as error:
        found.close()
        raise _not_free(host, port, error) from error
    return found


def _not_free(host: str, port: int, error: Exception) -> ConfigError:
    return ConfigError(
        f"expected a free address, got {host}:{port} ({error}); choose another --host or --port."
    )


@contextlib.contextmanager
def _sigterm_is_no_failure() -> Iterator[None]:
    """Once it has stopped, uvicorn sends itself the signal again, which would look like a crash."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
