"""mcgurk on SLURM: `python docs/recipes/slurm.py 8 build --root s3://bucket/audioset --state state --preset standard`.

It requests eight jobs with the settings in JOB, runs the command here, on a login node, and ends the jobs with it.
Traffic is encrypted with certificates made for this run. Needs `pip install dask-jobqueue`, and the same mcgurk on
every node.
"""

import sys
from pathlib import Path

import dask
from dask_jobqueue import SLURMCluster
from distributed.security import Security

from flows.commands.cli import main as mcgurk

JOB = {
    "cores": 8,
    "processes": 8,  # one thread per process: each clip's decoder is a separate process anyway
    "memory": "16GB",
    "walltime": "12:00:00",  # a job that ends early costs each worker a batch of eight clips
    "job_script_prologue": ["export TMPDIR=${SLURM_TMPDIR:-/tmp}"],  # clips in progress; gone with the job
}
SHARED = Path.home()  # any folder that all nodes see: it holds the certificates
NETWORK = None  # the interface through which nodes reach each other, such as ib0


def main(num_jobs: int, arguments: list[str]) -> int:
    """Runs one mcgurk command on `num_jobs` jobs; returns its exit code."""
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
