"""The demo is what a newcomer sees first, so it is run as one."""

from __future__ import annotations

import re
import subprocess
import sys

from scorer.encoder import Encoder
from tests.demo.stack import ROOT


def test_demo_runs_to_its_end(encoder: Encoder) -> None:
    done = subprocess.run([sys.executable, "-m", "tests.demo"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^(?:easy|hard) .* routed ", done.stdout, re.MULTILINE)) == 21
    assert len(re.findall(r"^easy .* fallback ", done.stdout, re.MULTILINE)) == 3
    night = re.search(r"^mf (\S+) published, ", done.stdout, re.MULTILINE)
    assert night
    assert re.search(rf"^served by (\S+) until then, now by {night[1]}$", done.stdout, re.MULTILINE)
    saved = re.search(r"(\d+)% saved", done.stdout)
    assert saved
    assert 0 < int(saved.group(1)) < 100
