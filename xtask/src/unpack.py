"""Unpacks libtorch from Python wheels: called by xtask/src/libtorch.rs.

    python3 unpack.py cpu|cuda WHEELS TO

cpu:  TO/include, TO/lib (what Easel is compiled and linked with), TO/licences
cuda: TO/lib (what libtorch_cuda.so needs beside those), TO/licences
"""

import os
import re
import shutil
import sys
import zipfile

# Linked by everything: torch's own libraries and the two of NVIDIA that libtorch_cpu.so is linked with.
NVIDIA_ON_CPU = ("libcudart.so", "libcupti.so")
# torch's libraries for NVIDIA cards.
TORCH_ON_CUDA = ("libtorch_cuda", "libc10_cuda", "libtorch_nvshmem", "libcaffe2_nvrtc")
# Parts of torch and of CUDA that no picture needs: Python's bindings, stubs, profilers, tools for several machines.
UNUSED = re.compile(
    r"libtorch_python|libshm|libtorch_global_deps|libtorch\.so"
    r"|libnvblas|libcufftw|libcusolverMg|\.alt\.so|libcufile_rdma"
    r"|libcheckpoint|libnvperf|libpcsampling|nvshmem_bootstrap|nvshmem_transport"
)


def place(mode, member):
    """Where a member of a wheel goes, or None."""
    folder, name = os.path.split(member)
    top = folder.split("/")[0]
    if top.endswith(".dist-info") and re.search(r"licen[cs]e|notice|copying", member, re.I):
        # License files of the wheel itself and of what it contains.
        inside = member.split("/", 1)[1]
        is_torch = top.startswith("torch-")
        wanted = is_torch if mode == "cpu" else not is_torch
        if mode == "cpu" and re.match(r"nvidia_cuda_(cupti|runtime)-", top):
            wanted = True
        inside = re.sub(r"^licen[cs]es/", "", inside)
        return "licences/%s/%s" % (top.split("-")[0], inside) if wanted else None
    if mode == "cuda" and re.match(r"nvidia/\w+/LICENSE", member):
        return "licences/nvidia_%s/%s" % (folder.split("/")[1], name)
    if mode == "cpu" and member.startswith("torch/include/"):
        return member[len("torch/") :]
    if not re.search(r"\.so(\.[0-9.]+)?$", name) or UNUSED.search(name):
        return None
    if folder == "torch/lib":
        on_cuda = name.startswith(TORCH_ON_CUDA)
    elif folder.startswith("nvidia/") and folder.endswith("/lib"):
        on_cuda = not name.startswith(NVIDIA_ON_CPU)
    else:
        return None
    return "lib/" + name if on_cuda == (mode == "cuda") else None


def main():
    mode, wheels, to = sys.argv[1:]
    for wheel in sorted(os.listdir(wheels)):
        if not wheel.endswith(".whl"):
            continue
        with zipfile.ZipFile(os.path.join(wheels, wheel)) as archive:
            for member in archive.namelist():
                path = None if member.endswith("/") else place(mode, member)
                if path is None or ".." in path.split("/"):
                    continue
                target = os.path.join(to, *path.split("/"))
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with archive.open(member) as source, open(target, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                if path.startswith("lib/"):
                    os.chmod(target, 0o755)


main()
