"""Another worker of the host that looks at a WebUI: run by test_probing.py as a process."""

import sys
from pathlib import Path

from sd_client.client import WebUIClient
from sd_client.probing import Pace, Probing
from state.holders import Holders
from state.sqlite import STATE_FILE, SqliteStore

PACE = Pace(interval_s=0.05, first_pause_s=0.02, longest_pause_s=0.1, refresh_s=0.02, share_s=0.02)

folder, url = Path(sys.argv[1]), sys.argv[2]
holders, clients = Holders(folder), {"webui": WebUIClient(url)}
probing = Probing(clients, SqliteStore(folder / STATE_FILE), holders, is_busy=lambda webui: False, pace=PACE)
probing.start()
probing.wait_for_first_look(20)
print("looked", flush=True)
sys.stdin.readline()
probing.close()
holders.close()
