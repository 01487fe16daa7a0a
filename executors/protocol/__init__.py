"""The protocol: what is done on a machine, by POSIX shell scripts that are brought there once a version.

``Scripts`` is the way in: ``submit`` brings leaves and submits batches, ``ask`` makes a round, looks up and cancels,
``fetch`` brings large outputs, ``clean`` removes. Each is one command over a transport. ``member.sh`` runs a leaf in
its job. The scripts need a POSIX shell with coreutils, util-linux, tar and gzip; Python OPs need Python 3.8 there.

    $ROOT/bin/<sha256>/                   the scripts of one version
    $ROOT/.cas/<sha256>/                  an extracted bundle, or a file `data` that leaves share
    $ROOT/.batch/<id>/                    job.sh submit.sh members; submit.lock submit.out submit.err submit.rc
    $ROOT/<key>/current                   the attempt that counts; revoked.<n> claim.<n> beside it
    $ROOT/<key>/attempt.<n>/              a leaf's directory: leaf.sh inputs/ outputs/ workdir/ log.txt exit.json
    $ROOT/.done/<token>                   ended, not yet forgotten

Not here: schedulers, retries, what an answer means for a job.

Trap: an answer that did not come says nothing. ``submit`` may have submitted; only ``ask(seal=...)`` tells.
"""

from dflow_hpc.executors.protocol.cargo import Cargo, unpack
from dflow_hpc.executors.protocol.leaves import LEAF_FILES, container_lines, leaf_files
from dflow_hpc.executors.protocol.pieces import Pieces
from dflow_hpc.executors.protocol.scripts import Frame, Home, NotThere, ProtocolError, Questions, Reply, Scripts

__all__ = [
    "LEAF_FILES",
    "Cargo",
    "Frame",
    "Home",
    "NotThere",
    "Pieces",
    "ProtocolError",
    "Questions",
    "Reply",
    "Scripts",
    "container_lines",
    "leaf_files",
    "unpack",
]
