"""A released network with NumPy and ONNX Runtime alone: python example_onnx.py model.onnx probes/tile.npz out.npy"""

import json
import sys

import numpy as np
import onnxruntime


def lakes(model: str, image_NCHW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lake probability 0-1 and lake yes/no (N, 1, H, W) of pixel values 0-255 in the bands that the model names."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    facts = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    height, width = image_NCHW.shape[-2:]
    stride, least, fixed = facts["stride"], facts["smallest_px"], facts["fixed_px"]
    if fixed and max(height, width) > fixed:
        raise ValueError(f"this network takes images of {fixed} px at most: cut the scene into tiles.")
    more = [(fixed or max(-(-side // stride) * stride, least)) - side for side in (height, width)]
    around = (0, 0), (0, 0), (0, more[0]), (0, more[1])
    inside = more[0] < height and more[1] < width
    grown = np.pad(image_NCHW, around, mode="reflect") if inside else np.pad(image_NCHW, around, mode="edge")
    (probability,) = session.run(None, {"image": grown.astype(np.float32)})
    probability = probability[..., :height, :width]
    return probability, probability >= facts.get("threshold", 0.5)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    model, source, target = sys.argv[1:]
    given = np.load(source)
    probability, lake = lakes(model, given["image"] if source.endswith(".npz") else given)
    np.save(target, probability)
    print(f"{lake.mean():.2%} of the pixels are lake")
