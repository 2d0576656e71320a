"""Forks draw different numbers, whatever generators were made before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[2] / "runtime-templates" / "_python"


def drawn(imports: str, draw: str) -> list[str]:
    """Return what three forks of a process that ran `imports` draw."""
    program = f"""
import sys; sys.path.append({str(RUNTIME)!r})
import gc, os
from pinnace_runtime import reseed
{imports}
found = reseed.find()
gc.collect(); gc.freeze()
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        reseed.renew(found)
        print({draw}, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"""
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("imports", "draw"),
    [
        ("import random; random.seed(1)", "random.random()"),
        ("import random; own = random.Random(1)", "own.random()"),
        ("import random; held = {'deep': [(random.Random(1),)]}", "held['deep'][0][0].random()"),
        (
            "import random\nclass Loaded(random.Random):\n    def seed(self, *_): super().seed(6)\nown = Loaded()",
            "own.random()",
        ),
        ("import uuid; uuid.uuid1()", "uuid.uuid1()"),
        ("import uuid; uuid._node = 1 << 40 | 1; uuid.uuid1()", "uuid.uuid1().node"),
        ("import uuid; uuid.uuid4()", "uuid.uuid4()"),
        ("import ssl; ssl.RAND_bytes(1)", "ssl.RAND_bytes(16).hex()"),
        ("import tempfile; next(tempfile._get_candidate_names())", "next(tempfile._get_candidate_names())"),
    ],
)
def test_forks_draw_different_numbers(imports: str, draw: str) -> None:
    assert len(set(drawn(imports, draw))) == 3


def test_the_systems_own_generator_is_left_alone() -> None:
    assert len(set(drawn("import random; own = random.SystemRandom()", "own.random()"))) == 3


@pytest.mark.parametrize("draw", ["numpy.random.random()", "old.random()", "new.random()", "bits.random()"])
def test_numpys_generators(draw: str) -> None:
    pytest.importorskip("numpy")
    imports = """
import numpy
numpy.random.seed(1)
old, new = numpy.random.RandomState(1), numpy.random.default_rng(1)
bits = numpy.random.Generator(numpy.random.Philox(1))
"""
    assert len(set(drawn(imports, draw))) == 3
