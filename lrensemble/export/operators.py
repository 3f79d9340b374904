"""The operations that an exported team may consist of.

Those of ATen that networks for images are made of (`lrensemble.models`, the classifiers of torchvision, most of timm),
gone through by hand: functions of tensors, that look at no file, no storage (``set_``, ``resize_``, ``as_strided``), no
memory without a value (``empty``), no value in Python (``item``), and draw nothing at random but for dropout. A model
that needs another one is exported as weights (``--as safetensors``).
"""

from __future__ import annotations

import torch

# By name; the overloads that return tensors are meant (there is an `add` of texts, and a `mul` of lists).
_ATEN = """
abs abs_ adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d add add_ addcdiv addcmul addmm alias all amax
amin __and__ any arange argmax argmin _assert_tensor_metadata atan2 avg_pool1d avg_pool2d baddbmm batch_norm bilinear
bitwise_and bitwise_not bitwise_or bitwise_xor bmm broadcast_to cat ceil celu channel_shuffle chunk clamp clamp_
clamp_max clamp_max_ clamp_min clamp_min_ clone col2im constant_pad_nd contiguous conv1d conv2d conv3d
conv_transpose1d conv_transpose2d convolution copy_ cos cosine_similarity cross cumsum detach detach_ diagonal div
div_ dropout dropout_ einsum elu elu_ embedding eq erf exp expand expand_as expm1 eye feature_dropout fill fill_
flatten flip floor floor_divide fmod full full_like gather ge gelu glu grid_sampler group_norm gt hardshrink
hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ im2col index index_select instance_norm isfinite
isinf isnan layer_norm le leaky_relu leaky_relu_ lerp lift_fresh_copy linalg_vector_norm linear linspace log log10
log1p log2 log_sigmoid _log_softmax log_softmax logical_and logical_not logical_or logical_xor logsumexp lstm lt
masked_fill masked_fill_ matmul max max_pool1d max_pool2d maximum mean meshgrid min minimum mish mish_ mm movedim mul
mul_ mv narrow _native_batch_norm_legit_no_training native_group_norm native_layer_norm ne neg new_full new_ones
new_zeros norm one_hot ones ones_like __or__ pad permute pixel_shuffle pixel_unshuffle pow prelu prod reciprocal
reflection_pad2d relu relu6 relu6_ relu_ remainder repeat repeat_interleave replication_pad2d reshape reshape_as
rms_norm roll rot90 round rsqrt rsub scaled_dot_product_attention scatter scatter_add select select_scatter selu selu_
sigmoid sigmoid_ sign silu silu_ sin slice slice_scatter _softmax softmax softplus split split_with_sizes sqrt square
squeeze stack std std_mean sub sub_ sum swapaxes t tan tanh tanh_ tile to _to_copy topk transpose tril triu
true_divide type_as unbind unflatten unfold _unsafe_view unsqueeze upsample_bicubic2d _upsample_bicubic2d_aa
upsample_bilinear2d _upsample_bilinear2d_aa upsample_nearest2d var var_mean view view_as where __xor__ zero_ zeros
zeros_like
"""
_NUMBERS = "add sub mul floordiv mod neg ge gt le lt eq ne"  # of the number of images


def _overloads(name: str) -> set[str]:
    """The overloads that return tensors, and write into none that they are given beside their first."""
    packet = getattr(torch.ops.aten, name, None)  # other versions of torch have others
    found = set()
    for overload in packet.overloads() if packet is not None else ():
        schema = getattr(packet, overload)._schema
        writes = any(a.alias_info is not None and a.alias_info.is_write for a in schema.arguments[1:])
        if not writes and all("Tensor" in str(r.type) for r in schema.returns):
            found.add(f"torch.ops.aten.{name}.{overload}")
    return found


OPERATORS = frozenset(
    {overload for name in _ATEN.split() for overload in _overloads(name)}
    | {f"_operator.{name}" for name in _NUMBERS.split()}
    | {"torch.ops.aten.sym_size.int"}
)
