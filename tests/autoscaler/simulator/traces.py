"""Small files in the formats of the public data sets. Names and numbers are made up."""

from __future__ import annotations

from pathlib import Path

INVOCATIONS = """\
HashOwner,HashApp,HashFunction,Trigger,480,481,482
o1,a1,clock,timer,1,0,2
o1,a2,web,http,0,30,5
"""
DURATIONS = """\
HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,percentile_Average_1,\
percentile_Average_25,percentile_Average_50,percentile_Average_75,percentile_Average_99,percentile_Average_100
o1,a1,clock,100,3,100,100,100,100,100,100,100,100,100
o1,a2,web,60,35,0,2000,0,0,20,40,80,1000,2000
"""
MEMORY = """\
HashFunction,HashOwner,HashApp,SampleCount,AverageAllocatedMb
web,o1,a2,10,170.5
"""
CALLS = """\
app,func,end_timestamp,duration
a,f,2.5,0.5
a,g,4.0,3.0
a,f,2.25,1.0
"""


def azure2019(folder: Path, *, invocations: str = INVOCATIONS, durations: str = DURATIONS, memory: str = MEMORY) -> Path:
    """Write an Azure 2019 trace of two functions and three minutes."""
    folder.mkdir(exist_ok=True)
    (folder / "invocations.csv").write_text(invocations)
    (folder / "durations.csv").write_text(durations)
    (folder / "memory.csv").write_text(memory)
    return folder
