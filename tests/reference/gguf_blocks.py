"""References of tests/gguf.rs: a GGUF file with a tensor of every type that Easel reads, and its values.

The blocks are random bits with finite scales, so that every bit of a block counts; the values are those of
the `gguf` package (0.19.0), which repeats ggml's formulas.
"""

from pathlib import Path

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type, GGUFWriter
from gguf.quants import dequantize
from safetensors.torch import save_file

DATA = Path(__file__).resolve().parent / "data" / "gguf"
# Where a block has its scales of 16 bits.
SCALES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0], Type.Q2_K: [80, 82],
    Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
}
ROWS, COLUMNS = 3, 512


def blocks(kind, random):
    """Rows of blocks: [ROWS, bytes of a row]."""
    elements, size = GGML_QUANT_SIZES[kind]
    count = ROWS * COLUMNS // elements
    bits = random.integers(0, 256, (count, size), dtype=np.uint8)
    for at in SCALES[kind]:
        scales = random.normal(0, 0.3, count).astype(np.float16)
        # A scale below the normal range of 16 bits, a negative one and none at all.
        scales[:3] = np.array([3e-7, -1.25, 0], dtype=np.float16)
        bits[:, at:at + 2] = scales.reshape(-1, 1).view(np.uint8)
    return bits.reshape(ROWS, -1)


def main():
    DATA.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(17)
    writer = GGUFWriter(DATA / "types.gguf", "sd1")
    writer.add_string("general.name", "types")
    writer.add_array("some.words", ["one", "two"])
    values = {}

    def add(name, stored, kind, floats):
        writer.add_tensor(name, stored, raw_dtype=kind)
        values[name] = torch.from_numpy(np.ascontiguousarray(floats, dtype=np.float32))

    for kind in SCALES:
        stored = blocks(kind, random)
        add(kind.name, stored, kind, dequantize(stored, kind))
    plain = random.normal(0, 1, (5, 7)).astype(np.float32)
    add("F32", plain, Type.F32, plain)
    add("F16", plain.astype(np.float16), Type.F16, plain.astype(np.float16))
    half = torch.from_numpy(plain).bfloat16()
    add("BF16", half.view(torch.uint8).numpy().reshape(5, 14), Type.BF16, half.float().numpy())
    # As ComfyUI-GGUF keeps a convolution: rows that blocks fit, the shape beside them.
    stored = blocks(Type.Q8_0, random)[:, :272]
    writer.add_array("comfy.gguf.orig_shape.conv", [16, 16, 3, 1])
    add("conv", stored, Type.Q8_0, dequantize(stored, Type.Q8_0).reshape(16, 16, 3, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(values, DATA / "types.safetensors")


if __name__ == "__main__":
    main()
