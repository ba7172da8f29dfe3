"""Every encoding of a mask that is found in the wild is read as meant, or refused by name."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from hqdata.masks import AmbiguousMaskError, Mask, measure, read_mask, to_soft
from hqdata.orientation import turn_upright
from support.pictures import disc, encode, photo

LIMIT = 120_000_000
HARD = disc(soft=False)
SOFT = disc()
OBJECT = HARD > 0


def read(data: bytes, **options: object) -> Mask:
    mask = read_mask(data, max_pixels=LIMIT, **options)  # type: ignore[arg-type]
    stored = cv2.imdecode(np.frombuffer(mask.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint8 and np.array_equal(stored, mask.values)
    return mask


def save(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(array: np.ndarray) -> bytes:
    return encode(array, "PNG")


def palette(indices: np.ndarray, *colours: tuple[int, int, int], bits: int = 8) -> bytes:
    image = Image.fromarray(indices.astype(np.uint8), mode="L").convert("P")
    image = Image.frombytes("P", image.size, indices.astype(np.uint8).tobytes())
    image.putpalette([value for colour in colours for value in colour])
    return save(image, bits=bits)


def gray_png(array: np.ndarray, bits: int) -> bytes:
    """A gray PNG of 1, 2 or 4 bits, which Pillow does not write from plain values."""
    import struct
    import zlib

    height, width = array.shape
    per_byte = 8 // bits
    padded = np.pad(array, ((0, 0), (0, -width % per_byte))).reshape(height, -1, per_byte)
    shifts = 8 - bits * (1 + np.arange(per_byte))
    packed = (padded.astype(int) << shifts).sum(axis=2).astype(np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in packed)

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    ihdr = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", ihdr), chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
    )


IDS = OBJECT.astype(np.uint8)
IDS[:32] *= 2
IDS[:, :48] += OBJECT[:, :48]
GRAY_ALPHA = np.dstack([np.full_like(SOFT, 255), SOFT])
RGBA_ALPHA = np.dstack([np.zeros((64, 96, 3), np.uint8), SOFT])

HARD_CASES = [
    ("untouched", png(HARD)),  # 0/255
    ("binary-01, png", png(OBJECT.astype(np.uint8))),  # 0/1
    ("binary-0-128, png", png(OBJECT * np.uint8(128))),  # 0/128, nothing above the threshold
    ("binary-0-200, png", png(OBJECT * np.uint8(200))),  # 0 and one other level
    ("rgb, binary-01, png", png(np.dstack([OBJECT.astype(np.uint8)] * 3))),  # RGB 0/1
    ("rgb, png", png(np.dstack([HARD] * 3))),  # RGB 0/255
    ("object-ids, png", png(np.where(OBJECT, IDS, 0).astype(np.uint8))),  # ids
    ("1-bit, png", save(Image.fromarray(HARD).convert("1"))),  # 1 bit
    ("2-bit, object-ids, png", gray_png(np.where(OBJECT, 1 + (IDS > 1), 0), 2)),  # 2 bits, ids
    ("4-bit, png", gray_png(OBJECT * 15, 4)),  # 4 bits, black and white
    ("4-bit, binary-01, png", gray_png(OBJECT * 1, 4)),  # 4 bits, 0/1
    ("16-bit, png", png(OBJECT * np.uint16(65535))),  # 16 bits over their full range
    ("16-bit-container, png", png(OBJECT * np.uint16(255))),  # 0/255 in 16 bits
    ("16-bit-container, binary-01, png", png(OBJECT * np.uint16(1))),  # 0/1 in 16 bits
    ("palette, one-colour-800000, png", palette(OBJECT, (0, 0, 0), (128, 0, 0))),  # VOC-like
    ("palette, rgb, png", palette(OBJECT, (0, 0, 0), (255, 255, 255))),  # palette of grey
    ("one-colour-00ff00, png", png(np.dstack([HARD * 0, HARD, HARD * 0]))),  # green on black
    ("bmp, png", encode(HARD, "BMP")),  # other lossless formats
    ("tiff, png", encode(HARD, "TIFF")),
    ("gif, png", encode(HARD, "GIF")),
]


@pytest.mark.parametrize(("changes", "data"), HARD_CASES, ids=[c for c, _ in HARD_CASES])
def test_hard_masks_become_0_and_255(changes: str, data: bytes) -> None:
    mask = read(data)
    got = mask.changes.replace("gif, palette, rgb", "gif")
    assert got == changes
    assert np.array_equal(mask.values, HARD)


@pytest.mark.parametrize(
    ("changes", "data"),
    [
        ("untouched", png(SOFT)),  # anti-aliased
        ("rgb, png", png(np.dstack([SOFT] * 3))),  # anti-aliased, RGB
        ("alpha-opaque, rgb, png", png(np.dstack([SOFT] * 3 + [SOFT * 0 + 255]))),  # RGBA
        ("alpha-over-black, rgb, png", png(GRAY_ALPHA)),  # the mask is the alpha of white
        ("alpha-is-mask, png", png(RGBA_ALPHA)),  # the mask is the alpha of black
        ("16-bit, png", png(SOFT.astype(np.uint16) * 257)),  # 16 bits
    ],
)
def test_soft_edges_stay_as_they_are(changes: str, data: bytes) -> None:
    mask = read(data)
    assert mask.changes == changes
    assert np.array_equal(mask.values, SOFT)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (png(np.repeat(np.array([0, 128, 255], np.uint8), 32)[None].repeat(64, 0)), "trimap"),
        (png(np.repeat(np.arange(40, dtype=np.uint8) * 6, 3)[None].repeat(64, 0)), "a photograph"),
        (png(np.repeat(np.arange(41, dtype=np.uint8), 3)[None].repeat(64, 0)), "41"),
        (png(np.dstack([HARD, HARD[::-1] // 2, HARD[:, ::-1] // 3 * (IDS > 1)])), "colours"),
        (palette(IDS % 3, (0, 0, 0), (128, 0, 0), (0, 128, 0)), "colours"),
        (png(np.full((64, 96), 77, np.uint8)), "every pixel has the level 77"),
        (png(photo(0)[:, :, 0]), "photograph"),
        (png(photo(0)), "colours"),
    ],
    ids=["trimap", "flat greys", "41 ids", "label map", "DAVIS palette", "one", "gray", "photo"],
)
def test_what_can_be_read_in_two_ways_is_refused_and_can_be_accepted(
    data: bytes, said: str
) -> None:
    if said == "41":
        said = "40 levels above 0"
    with pytest.raises(AmbiguousMaskError, match=said):
        read(data)
    assert "accepted" in read(data, accept=True).changes


BORDER = cv2.morphologyEx(HARD, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
LEFT = np.arange(96) < 48


def _bordered(*levels: int, border: int = 255, kind: type = np.uint8) -> np.ndarray:
    """Objects of these levels, side by side in the disc, with a void border, VOC style."""
    parts = np.array(levels)[np.minimum(np.arange(96) * len(levels) // 96, len(levels) - 1)]
    return np.where(BORDER, border, np.where(OBJECT, parts[None], 0)).astype(kind)


@pytest.mark.parametrize("level", [1, 2, 7, 15, 16, 17, 100, 238])
@pytest.mark.parametrize("void", [255, 254])
def test_a_flat_level_that_is_not_nearly_white_is_a_label_beside_a_bright_peak(
    level: int, void: int
) -> None:
    with pytest.raises(AmbiguousMaskError, match=rf"\b{level}\b"):
        read(png(_bordered(level, border=void)))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_ids_beside_a_void_border_are_named_whatever_the_lossless_format(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    with pytest.raises(AmbiguousMaskError, match="levels 1, 2, 7 "):
        read(encode(_bordered(1, 2, 7), kind, **options))


def test_ids_beside_an_antialiased_border_or_object_are_found_too() -> None:
    mask = _bordered(1, 15)
    mask[:20] = cv2.resize(HARD, (48, 10), interpolation=cv2.INTER_AREA).repeat(2, 0).repeat(2, 1)
    soft = np.maximum(mask, np.roll(cv2.blur(HARD, (3, 3)), 40, axis=1))
    with pytest.raises(AmbiguousMaskError, match="flat areas"):
        read(png(soft))


def test_thin_ids_without_any_edge_between_are_found_though_nowhere_flat() -> None:
    lines = np.zeros((64, 96), np.uint8)
    lines[10, 5:90], lines[20, 5:90], lines[30:40] = 1, 2, 255
    with pytest.raises(AmbiguousMaskError, match="levels 1, 2 beside 255"):
        read(png(lines))


def test_the_ringing_of_jpeg_and_of_resampling_is_no_label() -> None:
    for quality in (10, 30, 50, 75, 95):
        read(encode(SOFT, "JPEG", quality=quality))
        read(
            encode(_bordered(1, 2), "JPEG", quality=quality)
        )  # JPEG: dark levels are not looked at
    large = disc(700, 500, 190, soft=False)
    for how in (cv2.INTER_CUBIC, cv2.INTER_LANCZOS4):
        for scale in (0.4, 1.7, 4.0):
            values = cv2.resize(large, None, fx=scale, fy=scale, interpolation=how)
            assert np.array_equal(read(png(values)).values, values)


def test_hard_masks_are_read_without_a_histogram(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "calcHist", None)
    monkeypatch.setattr(np, "bincount", None)
    assert to_soft(HARD) == (HARD, "")
    soft = disc(700, 500, 190)
    assert to_soft(soft)[0] is soft


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ((100, 300), "2 levels above 0, up to 300"),
        ((120, 1000), "up to 1000"),
        ((120, 65535), "level, 120,"),
        ((100, 120, 65535), "100, 120"),
        ((128, 20000, 65535), "level 20000"),
        ((20000, 40000), "up to 40000"),
    ],
)
def test_ids_of_16_bits_are_named_before_the_division_takes_them_away(
    levels: tuple[int, ...], said: str
) -> None:
    data = png(np.where(OBJECT, _bordered(*levels, border=levels[-1], kind=np.uint16), 0))
    with pytest.raises(AmbiguousMaskError, match=said):
        read(data)
    assert np.array_equal(read(data, mask_values="object_ids").values > 0, OBJECT)


@pytest.mark.parametrize("level", [256, 300, 32768, 50000, 65535])
def test_one_level_of_16_bits_is_the_object_however_dark(level: int) -> None:
    assert np.array_equal(read(png(OBJECT * np.uint16(level))).values, HARD)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 65535), min_size=1, max_size=4, unique=True))
def test_no_16_bit_object_ever_vanishes_unnamed(levels: list[int]) -> None:
    parts = np.array(levels, np.uint16)[np.arange(96) * len(levels) // 96]
    mask = np.where(OBJECT, parts[None], np.uint16(0))
    try:
        values = read(png(mask)).values
    except AmbiguousMaskError:
        return
    assert np.array_equal(values > 0, mask > 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 255), min_size=1, max_size=5, unique=True))
def test_no_8_bit_object_ever_becomes_background_unnamed(levels: list[int]) -> None:
    parts = np.array(levels, np.uint8)[np.arange(96) * len(levels) // 96]
    mask = np.where(OBJECT, parts[None], np.uint8(0))
    try:
        values = read(png(mask)).values
    except AmbiguousMaskError:
        return
    assert np.array_equal(values > 128, OBJECT)


@pytest.mark.parametrize(
    "colour",
    [
        (20, 0, 0),
        (0, 24, 0),
        (0, 4, 4),
        (4, 0, 0),
        (3, 0, 0),
        (1, 0, 0),
        (20, 20, 0),
        (255, 255, 231),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_a_faint_colour_beside_white_is_a_label(colour: tuple[int, int, int], kind: str) -> None:
    rgb = np.dstack([np.where(LEFT, HARD, HARD // 255 * c) for c in colour]).astype(np.uint8)
    with pytest.raises(AmbiguousMaskError):
        read(encode(rgb, kind))


def test_coloured_fringes_along_edges_are_no_labels_nor_is_an_off_white() -> None:
    shifted = np.dstack([disc(480, 320, radius) for radius in (100, 100.03, 100.06)])
    assert read(png(shifted)).changes == "rgb, png"
    white = np.dstack([SOFT, SOFT, np.round(SOFT / 255 * 252).astype(np.uint8)])
    assert read(png(white)).changes == "rgb, png"


def test_16_bit_colours_are_read_like_16_bit_greys() -> None:
    def wide(*channels: np.ndarray) -> bytes:
        return cv2.imencode(".png", np.dstack(channels).astype(np.uint16))[1].tobytes()  # type: ignore[no-any-return]

    soft = SOFT.astype(np.uint16) * 257
    assert np.array_equal(read(wide(soft, soft, soft)).values, SOFT)
    assert read(wide(OBJECT, OBJECT, OBJECT)).changes == "16-bit-container, rgb, binary-01, png"
    opaque = np.full_like(soft, 65535)
    assert np.array_equal(read(wide(opaque, opaque, opaque, soft)).values, SOFT)
    ids = _bordered(100, 300, border=300, kind=np.uint16)
    for data in (wide(ids, ids, ids), wide(ids, ids, ids * 0)):
        with pytest.raises(AmbiguousMaskError):
            read(data)
        assert np.array_equal(read(data, mask_values="object_ids").values > 0, ids > 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_with_an_orientation_of_its_own_is_turned_upright(
    kind: str, orientation: int
) -> None:
    values = np.zeros((64, 96), np.uint8)
    values[8:24, 8:64] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    mask = read(encode(values, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {})))
    assert np.array_equal(mask.values > 128, turn_upright(values, orientation) > 128)
    assert mask.changes.startswith(f"exif-orientation-{orientation}") is (orientation != 1)


@pytest.mark.parametrize(
    "data",
    [
        png(np.where(OBJECT, IDS, 0).astype(np.uint8)),  # ids as levels
        png((IDS.astype(np.uint8)) * 60),  # ids as far levels
        palette(IDS, *[(40 * i, 20, 0) if i else (0, 0, 0) for i in range(5)]),  # as colours
        png(IDS.astype(np.uint16) * 300),  # ids of 16 bits
    ],
)
def test_object_ids_are_taken_as_such_where_the_manifest_says_so(data: bytes) -> None:
    assert np.array_equal(read(data, mask_values="object_ids").values, np.where(IDS > 0, 255, 0))


def test_a_thin_third_level_is_a_trimap_but_an_aliased_edge_of_many_levels_is_not() -> None:
    ring = cv2.morphologyEx(HARD, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    with pytest.raises(AmbiguousMaskError, match="trimap"):
        read(png(np.where(ring, 128, HARD).astype(np.uint8)))
    blurred = cv2.blur(HARD, (3, 3))
    assert np.array_equal(read(png(blurred)).values, blurred)


def test_only_canonical_png_bytes_stay_untouched() -> None:
    data = png(SOFT)
    assert read(data).data == data
    trailing = read(data + b"rest")
    assert trailing.data != data + b"rest" and trailing.changes == "png"
    assert read(save(Image.fromarray(SOFT), transparency=0)).changes == "png"


@pytest.mark.parametrize("quality", [30, 60, 90, 100])
@pytest.mark.parametrize("gray", [True, False])
def test_a_jpeg_mask_keeps_its_object(quality: int, gray: bool) -> None:
    pixels = SOFT if gray else np.dstack([SOFT] * 3)
    mask = read(encode(pixels, "JPEG", quality=quality))
    assert mask.changes == ("jpeg, png" if gray else "jpeg, rgb, png")
    assert np.mean((mask.values > 128) != (SOFT > 128)) < 0.01


def test_a_soft_mask_need_not_quite_reach_white_but_a_flat_grey_object_is_a_label() -> None:
    nearly = np.round(SOFT / 255 * 245).astype(np.uint8)
    assert np.array_equal(read(png(nearly)).values, nearly)
    with pytest.raises(AmbiguousMaskError, match="flat areas"):
        read(png(np.round(SOFT / 255 * 220).astype(np.uint8)))


def test_a_mask_is_resized_only_where_asked_and_where_it_differs() -> None:
    small = disc(48, 32, 10)
    mask = read(png(small), size=(96, 64))
    expected = cv2.resize(small, (96, 64), interpolation=cv2.INTER_LINEAR)
    assert mask.changes == "resized-from-48x32, png"
    assert np.array_equal(mask.values, expected)
    assert read(png(SOFT), size=(96, 64)).changes == "untouched"


# ---- real masks


def test_fss1000_masks_of_rgb_0_1_are_read_as_any_value_above_0(real_data: Path) -> None:
    paths = sorted((real_data / "fss1000").glob("*/imgs/example/support/label/*.png"))
    assert len(paths) == 10
    for path in paths:
        raw = np.asarray(Image.open(path).convert("RGB"))
        assert raw.max() == 1
        assert np.array_equal(read(path.read_bytes()).values > 0, raw.max(axis=2) > 0), path


def test_fss1000_masks_of_anti_aliased_rgba_are_read_as_the_mean_channel(real_data: Path) -> None:
    paths = sorted((real_data / "fss1000").glob("*/tests/test_data/*/supp/label/*.png"))
    assert len(paths) == 5
    for path in paths:
        raw = np.asarray(Image.open(path).convert("RGBA")).astype(float)
        expected = raw[:, :, :3].mean(axis=2) * raw[:, :, 3] / 255
        values = read(path.read_bytes()).values
        assert np.abs(values - expected).max() <= 8, path  # the middle channel is taken
        assert np.abs(values - expected).mean() < 0.1, path


def test_real_trimaps_of_grabcut_are_refused_and_its_plain_masks_are_not(real_data: Path) -> None:
    num_refused = 0
    for path in sorted((real_data / "grabcut" / "ground-truth").glob("*.png")):
        levels = set(np.unique(np.asarray(Image.open(path).convert("L"))))
        if levels == {0, 255}:
            assert set(np.unique(read(path.read_bytes()).values)) == levels
        else:
            assert levels == {0, 128, 255}
            with pytest.raises(AmbiguousMaskError, match="128"):
                read(path.read_bytes())
            num_refused += 1
    assert num_refused > 30


def test_real_mattes_are_kept_as_soft_as_they_are(real_data: Path) -> None:
    paths = sorted((real_data / "matting_foamliu" / "images").glob("*_alpha.png"))
    for path in paths[:-1]:
        data = path.read_bytes()
        assert (read(data).data, read(data).changes) == (data, "untouched"), path.name
    # A matte that is half transparent almost everywhere has the levels of a photograph.
    with pytest.raises(AmbiguousMaskError, match="photograph"):
        read(paths[-1].read_bytes())
    assert np.array_equal(
        read(paths[-1].read_bytes(), accept=True).values, np.asarray(Image.open(paths[-1]))
    )


def test_no_real_photograph_passes_for_a_mask(real_data: Path) -> None:
    slipped = []
    for path in sorted((real_data / "photos").iterdir()):
        gray = cv2.imread(str(path), cv2.IMREAD_REDUCED_GRAYSCALE_2)
        for suffix in (".png", ".jpg"):
            data = cv2.imencode(suffix, gray)[1].tobytes()
            if not _is_refused(data):
                slipped.append(path.name + suffix)
    assert slipped == []


def _is_refused(data: bytes) -> bool:
    try:
        read(data)
    except AmbiguousMaskError:
        return True
    return False


@pytest.mark.parametrize("dataset", ["DAVIS-2016", "Weizmann", "Human", "CascadePSP"])
def test_all_masks_of_real_pairs_are_taken(real_data: Path, dataset: str) -> None:
    with open(real_data / "pairs.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"].startswith(dataset)]
    assert rows
    for row in rows[:: 1 + len(rows) // 80]:
        path = real_data / row["mask"]
        raw = np.asarray(Image.open(path).convert("L"))
        assert np.array_equal(read(path.read_bytes()).values > 128, raw > 128), path


def test_an_illustration_in_colour_is_no_mask(real_data: Path) -> None:
    with pytest.raises(AmbiguousMaskError, match="colours"):
        read((real_data / "cascade_psp/docs/images/big_sample_mask.jpg").read_bytes())


# ---- figures


def _components(binary: np.ndarray) -> int:
    todo = set(zip(*np.nonzero(binary), strict=True))
    count = 0
    while todo:
        count += 1
        stack = [todo.pop()]
        while stack:
            y, x = stack.pop()
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in todo:
                    todo.discard(near)
                    stack.append(near)
    return count


LEVELS = st.sampled_from([0, 1, 127, 128, 129, 254, 255])


@settings(max_examples=200, deadline=None)
@given(
    arrays(
        np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=LEVELS, fill=LEVELS
    )
)
def test_area_box_softness_and_components_are_those_of_brute_force(values: np.ndarray) -> None:
    figures = measure(values)
    binary = values > 128
    if not binary.any():
        assert figures is None
        return
    assert figures is not None
    ys, xs = np.nonzero(binary)
    assert figures.area_fraction == binary.mean()
    assert figures.box == (xs.min(), ys.min(), xs.max(), ys.max())
    assert figures.soft_fraction == pytest.approx(np.mean((values > 0) & (values < 255)))
    assert figures.num_components == _components(binary)


@pytest.mark.parametrize(("level", "is_object"), [(127, False), (128, False), (129, True)])
def test_the_threshold_is_exactly_above_128(level: int, is_object: bool) -> None:
    values = np.zeros((8, 8), np.uint8)
    values[2:4, 2:4] = level
    assert (measure(values) is not None) is is_object


@pytest.mark.parametrize("radius", [40, 100, 200])
def test_the_thinness_of_a_disc_is_about_1(radius: int) -> None:
    figures = measure(disc(2 * radius + 20, 2 * radius + 20, radius))
    assert figures is not None and figures.thinness == pytest.approx(1.1, abs=0.12)


@pytest.mark.parametrize("side", [10, 101])
def test_the_thinness_of_a_square_is_known(side: int) -> None:
    values = np.zeros((side + 10, side + 10), np.uint8)
    values[5 : 5 + side, 5 : 5 + side] = 255
    figures = measure(values)
    assert figures is not None
    assert figures.thinness == pytest.approx((4 * (side - 1)) ** 2 / (4 * np.pi * side**2))


def test_the_thinness_of_a_comb_is_large_and_counts_holes() -> None:
    comb = np.zeros((100, 100), np.uint8)
    comb[::4] = 255
    square = np.full((100, 100), 255, np.uint8)
    holed = square.copy()
    holed[20:80:4, 20:80:4] = 0
    thinness = [measure(values).thinness for values in (square, holed, comb)]  # type: ignore[union-attr]
    assert thinness[0] < thinness[1] < thinness[2]
    assert thinness[2] > 100


@pytest.mark.parametrize("level", [239, 250, 254])
def test_flat_areas_that_are_nearly_white_are_object(level: int) -> None:
    """Mattes are full of 254 where they mean 255; nobody can mistake that for background."""
    values = disc(200, 160, 60)
    values[60:100, 80:120] = level
    read = read_mask(encode(values, "PNG"), max_pixels=10**6)
    assert np.array_equal(read.values, values)
