"""Masks one object in one photo: `python -m training.predict photo.jpg --box 100,80,640,560`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from hqdata.codecs import encode_png
from hqdata.errors import UserError
from hqdata.files import no_room, write_whole
from training.cli_common import make_app, out_console, pick_device, run_app
from training.inference import (
    Box,
    Point,
    UserPrompt,
    check_prompt,
    predict_mask,
    read_photo,
    read_prior,
)
from training.loading import load_model, resolve_precision
from training.pictures import overlay as draw_overlay

app = make_app("Masks one object in one photo with HQ-SAM.")


@app.command()
def predict(
    photo: Annotated[Path, typer.Argument(help="Picture file; EXIF orientation is heeded.")],
    checkpoint: Annotated[
        Path, typer.Option("--checkpoint", help="sam_hq*.pth, HQ weights alone, or a run's folder.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Mask to write, a PNG of 0 and 255.")],
    box: Annotated[
        str | None,
        typer.Option("--box", metavar="X0,Y0,X1,Y1", help="Box, in pixels of the upright photo."),
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(
            "--point", metavar="X,Y[,0|1]", help="Point, 1 on the object, 0 beside it. Repeatable."
        ),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option("--mask", help="Rough mask of the photo's size, above 128.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Backbone. [default: as in the checkpoint]")
    ] = None,
    sam_checkpoint: Annotated[
        Path | None,
        typer.Option("--sam-checkpoint", help="SAM's weights, if the checkpoint has none."),
    ] = None,
    hq_only: Annotated[
        bool, typer.Option("--hq-only", help="The HQ token's mask alone, not added to SAM's.")
    ] = False,
    multimask: Annotated[
        bool, typer.Option("--multimask", help="Let SAM choose among three masks.")
    ] = False,
    overlay: Annotated[
        Path | None, typer.Option("--overlay", help="Also write the photo with the mask, a PNG.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    precision: Annotated[str, typer.Option("--precision", help="auto, fp32 or bf16.")] = "auto",
) -> None:
    """Mask one object in one photo with HQ-SAM."""
    for path in (out, overlay):
        _check_target(path)
    pixels = read_photo(photo)
    size = pixels.shape[0], pixels.shape[1]
    prompt = UserPrompt(
        box=parse_box(box) if box is not None else None,
        points=tuple(parse_point(text) for text in point or []),
        mask=read_prior(mask, size) if mask is not None else None,
    )
    check_prompt(prompt, size)
    where = pick_device(device)
    loaded = load_model(
        checkpoint,
        device=where,
        precision=resolve_precision(precision, where),
        name=model,
        sam_checkpoint=sam_checkpoint,
    )
    found = predict_mask(
        loaded.model, pixels, prompt, device=where, hq_only=hq_only, multimask=multimask
    )
    _write(out, encode_png(found.mask.astype("uint8") * 255))
    told = f"mask: {out}, {found.mask.mean():.2%} of the photo"
    out_console.print(f"{told}; SAM expects an IoU of {found.expected_iou:.3f}", markup=False)
    if overlay is not None:
        _write(overlay, encode_png(draw_overlay(pixels, found.mask)))
        out_console.print(f"overlay: {overlay}", markup=False)


def parse_box(text: str) -> Box:
    """`100,80,640,560` as four numbers.

    Raises:
        UserError: it is no such text.
    """
    numbers = _numbers(text, "--box")
    if len(numbers) != 4:
        raise UserError(
            f"--box {text!r} has {len(numbers)} numbers", expected="four: x0,y0,x1,y1 in pixels"
        )
    x0, y0, x1, y1 = numbers
    return x0, y0, x1, y1


def parse_point(text: str) -> Point:
    """`320,240`, `320,240,1` or `320,240,0` as x, y and label.

    Raises:
        UserError: it is no such text.
    """
    numbers = _numbers(text, "--point")
    if len(numbers) not in (2, 3) or (len(numbers) == 3 and numbers[2] not in (0, 1)):
        raise UserError(
            f"--point {text!r} is no point",
            expected="x,y in pixels, then ,1 for the object (the default) or ,0 for the background",
        )
    return numbers[0], numbers[1], int(numbers[2]) if len(numbers) == 3 else 1


def _numbers(text: str, option: str) -> list[float]:
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"{option} {text!r} is not a list of numbers", expected="e.g. 100,80")
    return numbers


def _check_target(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix.lower() != ".png":
        raise UserError("masks are written as PNG", where=path, expected="a name that ends in .png")
    if not path.parent.is_dir():
        raise UserError("the folder to write to does not exist", where=path.parent)


def _write(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise no_room(error, path) or UserError(
            f"cannot write the picture: {error.strerror}", where=path
        ) from error


if __name__ == "__main__":
    run_app(app)
