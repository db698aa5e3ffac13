"""Read PyTorch files with the restricted unpickler (`weights_only=True`): tensors and containers, no code."""

import pickle
import re
import zipfile

from csbviz.errors import FileFormatError
from csbviz.models.content import reason_of, shown
from csbviz.models.tensors import MAX_UNPACKED, StoredTensor

__all__ = ["read"]

# Where training scripts keep the weights inside a checkpoint, and what stands beside them.
_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
)
_NOT_WEIGHTS = re.compile(r"optim|sched|scaler|^args$|^opt$|config|rng|epoch", re.I)
_PREFIXES = ("module.", "_orig_mod.")  # put in front of every name by DataParallel and torch.compile
_DEPTH = 8
_HOW_TO_SAVE = "with torch.save(model.state_dict(), …)"


def read(content):
    """Read the tensors of a .pt or .pth file.

    Parameters
    ----------
    content : Content

    Returns
    -------
    tensors : list of StoredTensor
        Names of nested containers are joined by dots.
    metadata : dict
        Empty.

    Raises
    ------
    FileFormatError
        The pickle wants to run code, or the file is truncated, damaged, compressed or a TorchScript program.
    """
    archive = content.head(4) == b"PK\x03\x04"
    if archive:
        _check_archive(content)
    elif content.head(2) != b"\x80\x02":  # torch.save's old form is a pickle of protocol 2
        raise FileFormatError(
            f"{content.name} is a Python pickle that torch.save did not write; it could run code, so it is "
            f"never opened: save the weights {_HOW_TO_SAVE} or as safetensors."
        )
    loaded = _load(content, archive)
    named = _common_prefix_removed(_flatten(_unwrap(loaded)))
    total = sum(tensor.numel() * tensor.element_size() for tensor in named.values())
    if total > max(MAX_UNPACKED, 2 * content.size):
        raise FileFormatError(
            f"{content.name} has {content.size:,} bytes but claims tensors of {total:,} bytes."
        )
    return [_stored(content, name, tensor) for name, tensor in named.items()], {}


def _check_archive(content):
    """Refuse what torch.save never writes before PyTorch's own reader sees it."""
    try:
        with content.stream() as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FileFormatError(
            f"{content.name} is truncated or damaged as a PyTorch archive ({reason_of(error)})."
        ) from error
    if any(member.filename.endswith("constants.pkl") for member in members):
        raise FileFormatError(
            f"{content.name} is a TorchScript program; save its weights alone, {_HOW_TO_SAVE}."
        )
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise FileFormatError(
            f"{content.name} is a compressed archive, which PyTorch never writes; it is not opened."
        )


def _load(content, archive):
    import torch

    mapped = archive and content.path is not None
    try:
        if mapped:
            return torch.load(content.path, map_location="cpu", weights_only=True, mmap=True)
        with content.stream() as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileFormatError(_pickle_sentence(content.name, str(error))) from error
    except MemoryError as error:
        raise FileFormatError(f"{content.name} claims more memory than this machine has.") from error
    except Exception as error:  # whatever a damaged pickle makes the unpickler stumble over
        raise FileFormatError(
            f"{content.name} is truncated or damaged as a PyTorch file ({reason_of(error)})."
        ) from error


def _pickle_sentence(name, message):
    wanted = re.search(r"GLOBAL ([\w.]+)|(?:find|import|get) class ([\w.]+)", message)
    if wanted:
        return (
            f"{name} holds a pickle that wants to run code ({wanted[1] or wanted[2]}), which is never done; "
            f"save the weights alone, {_HOW_TO_SAVE} or as safetensors."
        )
    return f"{name} holds no PyTorch weights that can be read safely; save them {_HOW_TO_SAVE}."


def _unwrap(loaded):
    """Descend to the state dict inside a checkpoint."""
    for _ in range(_DEPTH):
        if not isinstance(loaded, dict):
            break
        inner = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), dict)), None)
        if not inner or not _flatten(inner):
            break
        loaded = inner
    return loaded


def _flatten(loaded):
    """Give the tensors in nested dicts and lists, {dotted name: tensor}; a shared container is taken once."""
    import torch

    found, seen, todo = {}, set(), [("", loaded, 0)]
    while todo:
        name, value, depth = todo.pop()
        if isinstance(value, torch.Tensor):
            found.setdefault(name or "weight", value)
        elif isinstance(value, (dict, list, tuple)) and depth < _DEPTH and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            children = [
                (f"{name}.{key}" if name else str(key), child, depth + 1)
                for key, child in items
                if not (depth == 0 and isinstance(key, str) and _is_aside(key, child))
            ]
            todo.extend(reversed(children))
    return found


def _is_aside(key, child):
    return bool(_NOT_WEIGHTS.search(key)) and isinstance(child, (dict, list, tuple))


def _common_prefix_removed(named):
    for prefix in _PREFIXES * 2:
        if named and all(name.startswith(prefix) for name in named):
            named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    return named


def _stored(content, name, tensor):
    import torch

    if (
        tensor.is_quantized
        or tensor.device.type != "cpu"
        or tensor.layout not in (torch.strided, torch.sparse_coo)
    ):
        raise FileFormatError(
            f"{content.name} holds {shown(name)} in a form that cannot be read "
            "(quantised, compressed sparse or without data); a plain tensor is needed."
        )
    if tensor.layout is torch.sparse_coo:
        tensor = _densified(content, name, tensor)
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise FileFormatError(
            f"{content.name} is damaged: {shown(name)} of shape {tuple(tensor.shape)} "
            "claims more than it has."
        )
    tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype == "bfloat16":
        tensor = tensor.view(torch.int16)
    elif dtype.startswith("float8"):
        tensor = tensor.view(torch.uint8)
    return StoredTensor.of(name, tensor.numpy(), dtype)


def _densified(content, name, tensor):
    """Scatter a coordinate tensor; its indices come from the file, and PyTorch itself would trust them."""
    import numpy as np
    import torch

    indices, values, shape = tensor._indices(), tensor._values(), tuple(tensor.shape)
    try:
        flat = np.ravel_multi_index(tuple(indices.numpy()), shape)
    except ValueError as error:
        raise FileFormatError(
            f"{content.name} is damaged: {shown(name)} has indices outside of {shape}."
        ) from error
    if values.shape != (len(flat),):
        raise FileFormatError(
            f"{content.name} is damaged: {shown(name)} has {len(flat)} indices for other values."
        )
    dense = torch.zeros(tensor.numel(), dtype=values.dtype)
    return dense.index_add_(0, torch.from_numpy(flat), values.detach()).reshape(shape)
