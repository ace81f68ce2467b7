"""The simulator as a process."""

import argparse
import signal
import threading

from simulator.controlnet import KINDS
from simulator.faults import Fault, FaultError, parse_fault
from simulator.flavours import NAMES
from simulator.simulator import Simulator

DEFAULT_STEP_TIME_S = 0.05
KEPT_BODY_BYTES = 2000  # As much as /simulator/requests shows.


def _fault(spec: str) -> Fault:
    try:
        return parse_fault(spec)
    except FaultError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7860, help="0 for any free one (default: %(default)s)")
    parser.add_argument("--flavour", choices=NAMES, default="a1111")
    parser.add_argument(
        "--step-time",
        type=float,
        default=DEFAULT_STEP_TIME_S,
        metavar="SECONDS",
        help="for one step at 512x512; grows with pixels and batch (default: %(default)s)",
    )
    parser.add_argument("--load-time", type=float, default=0.0, metavar="SECONDS", help="for a switch of models")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu", help="what /sdapi/v1/memory shows")
    parser.add_argument(
        "--model", action="append", dest="models", metavar="NAME", help="a model's file name; repeatable"
    )
    parser.add_argument("--broken", action="append", metavar="NAME", help="one of them cannot be loaded; repeatable")
    parser.add_argument("--nothing-loaded", action="store_true", help="SD.Next as it starts without a saved choice")
    parser.add_argument("--samples-format", choices=("png", "jpg", "webp"))
    parser.add_argument("--api-auth", metavar="USER:PASS")
    parser.add_argument("--prefix", default="", metavar="/SOME/PATH", help="the path all routes live under")
    parser.add_argument(
        "--startup-time", type=float, default=0.0, metavar="SECONDS", help="/sdapi/* is 404 for so long"
    )
    parser.add_argument(
        "--nowebui", action="store_false", dest="has_page", help="the API alone, without the page's routes"
    )
    parser.add_argument(
        "--controlnet", choices=KINDS, help="the extension, Forge's own, or none (default: as the flavour comes)"
    )
    parser.add_argument(
        "--fault",
        action="append",
        dest="faults",
        type=_fault,
        default=[],
        metavar="KIND[:route=ROUTE][:times=N[:of=M]][:seconds=S]",
        help="a way to fail; repeatable, the first that fits strikes",
    )
    return parser


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    args = _parser().parse_args()
    ended = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: ended.set())
    given = {name: value for name, value in vars(args).items() if value is not None}
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    with Simulator(**{**given, **lists}, max_body_bytes=KEPT_BODY_BYTES) as simulator:
        print(f"simulated WebUI ({args.flavour}) on {simulator.url}", flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
