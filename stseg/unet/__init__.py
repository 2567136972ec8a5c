"""The five-module U-net of the paper, and the networks that differ from it by a module or two."""

from __future__ import annotations

from dataclasses import replace

from stseg.unet.blocks import DoubleConv, DoubleConv2d, SpatialDown, SpatialUp, Spec
from stseg.unet.skeleton import Blocks, ModuleShapeError, UNet
from stseg.unet.transit import BottleneckAttention, BottleneckRecurrence, Skip

PAPER = Blocks(left=DoubleConv, down=SpatialDown, transit=Skip, right=DoubleConv, up=SpatialUp)

ARCHITECTURES: dict[str, Blocks] = {
    "paper": PAPER,
    "attention": replace(PAPER, transit=BottleneckAttention),
    "recurrent": replace(PAPER, transit=BottleneckRecurrence),
    "predecessor": replace(PAPER, left=DoubleConv2d, right=DoubleConv2d),  # frame by frame
}

__all__ = ["ARCHITECTURES", "PAPER", "Blocks", "ModuleShapeError", "Spec", "UNet"]
