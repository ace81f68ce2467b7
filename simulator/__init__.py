"""A stand-in for Stable Diffusion WebUIs: it speaks /sdapi/v1 over HTTP and paints without a model."""

from simulator.faults import Fault, FaultError
from simulator.journal import ReceivedRequest
from simulator.simulator import Simulator

__all__ = ["Fault", "FaultError", "ReceivedRequest", "Simulator"]
