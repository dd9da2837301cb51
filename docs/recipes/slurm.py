"""mcgurk on SLURM: `python docs/recipes/slurm.py 8 build --root s3://bucket/audioset --state state --preset standard`.

Eight jobs of JOB are asked for; the command runs here, on a login node, and ends them. Traffic is encrypted with
certificates made for this run. Needs `pip install dask-jobqueue`, and the same mcgurk on every node.
"""

import sys
from pathlib import Path

import dask
from dask_jobqueue import SLURMCluster
from distributed.security import Security

from flows.commands.cli import main as mcgurk

JOB = {
    "cores": 8,
    "processes": 8,  # one thread a process: a clip's decoder is a process of its own anyway
    "memory": "16GB",
    "walltime": "12:00:00",  # a job that ends early costs a batch of eight clips a worker
    "job_script_prologue": ["export TMPDIR=${SLURM_TMPDIR:-/tmp}"],  # clips under way, gone with the job
}
SHARED = Path.home()  # any folder that the nodes see: the certificates' place
NETWORK = None  # the interface that nodes reach each other by, as ib0


def main(num_jobs: int, arguments: list[str]) -> int:
    """Runs one command of mcgurk on that many jobs; returns its exit code."""
    security = Security.temporary()
    options = {"security": security, "protocol": "tls://", "shared_temp_directory": str(SHARED)}
    with SLURMCluster(**JOB, **options, interface=NETWORK) as cluster:
        cluster.scale(jobs=num_jobs)
        tls = security.get_tls_config_for_role("client")
        names = {"ca-file": "ca_file", "client.cert": "cert", "client.key": "key"}
        with dask.config.set({f"distributed.comm.tls.{name}": tls[field] for name, field in names.items()}):
            return mcgurk([*arguments, "--compute", cluster.scheduler_address])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
