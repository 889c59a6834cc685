"""Page images: what may be opened, what is refused, and what the refusal says"""

import os
import base64
import io
import struct
import threading
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings as hsettings, strategies as st
from PIL import Image

from vote_experiments.forms import pages


def sheet(width=310, height=440, value=230):
    "A page with a dark bar along its upper edge"
    out = np.full((height, width, 3), value, np.uint8)
    out[: height // 10] = 20
    return Image.fromarray(out)


def png_promising(width, height):
    "A few hundred bytes whose header promises width x height pixels"

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def root(tmp_path):
    (tmp_path / "in").mkdir()
    return (tmp_path / "in").resolve()


@pytest.mark.parametrize(
    "name, options",
    [
        ("a.jpg", {}),
        ("a.png", {}),
        ("a.webp", {}),
        ("a.tif", {}),
        ("b.tif", {"compression": "tiff_lzw"}),
        ("a.pdf", {"resolution": 150}),
    ],
)
def test_every_format_gives_the_same_page(root, name, options):
    sheet().save(root / name, **options)
    assert pages.count_pages(root / name, [root]) == 1
    gray = pages.load_page(root / name, 0, [root], gray=True)
    colour = pages.load_page(root / name, 0, [root])
    assert gray.dtype == colour.dtype == np.uint8
    assert colour.shape == (*gray.shape, 3)
    assert gray.shape[0] == 440 and 310 <= gray.shape[1] <= 311  # PDF sizes are in points and round up
    assert gray[:40].mean() < 40 and abs(gray[60:].mean() - 230) < 4
    assert np.abs(colour.mean(2) - gray).mean() < 3


def test_the_content_decides_not_the_ending(root):
    sheet().save(root / "really.png")
    (root / "really.png").rename(root / "scan.jpg")
    assert pages.load_page(root / "scan.jpg", 0, [root]).shape == (440, 310, 3)
    assert pages.page_bytes(root / "scan.jpg", roots=[root])[1] == "image/png"


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr"])
def test_every_depth_and_colour_model_becomes_eight_bits(root, mode):
    base = sheet()
    if mode in ("I;16", "I", "F"):
        deep = np.asarray(base.convert("L")).astype(np.uint16) * 257
        image = Image.fromarray(deep if mode == "I;16" else deep.astype(np.int32 if mode == "I" else np.float32))
    elif mode == "P":
        image = base.quantize(16)
    else:
        image = base.convert(mode)
    image.save(root / "a.tif")
    gray = pages.load_page(root / "a.tif", 0, [root], gray=True)
    assert gray[:40].mean() < 45
    assert gray[60:].mean() > 220


def test_transparency_is_white_paper(root):
    clear = np.zeros((100, 100, 4), np.uint8)
    clear[40:60] = (0, 0, 0, 255)
    Image.fromarray(clear).save(root / "a.png")
    got = pages.load_page(root / "a.png", 0, [root], gray=True)
    assert got[0, 0] == 255 and got[50, 50] == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_exif_orientation_is_obeyed(root, orientation, name):
    undo = {
        2: "FLIP_LEFT_RIGHT",
        3: "ROTATE_180",
        4: "FLIP_TOP_BOTTOM",
        5: "TRANSPOSE",
        6: "ROTATE_90",
        7: "TRANSVERSE",
        8: "ROTATE_270",
    }
    base = np.full((440, 310), 230, np.uint8)
    base[:44, :155] = 20  # a mark in one corner, so that mirroring shows
    image = Image.fromarray(base)
    note = Image.Exif()
    note[0x0112] = orientation
    if orientation in undo:
        image = image.transpose(Image.Transpose[undo[orientation]])
    image.save(root / name, exif=note)
    got = pages.load_page(root / name, 0, [root], gray=True)
    assert got.shape == (440, 310)
    assert got[:40, :150].mean() < 40 and got[:40, 165:].mean() > 215 and got[60:].mean() > 215
    sent, mime = pages.page_bytes(root / name, roots=[root])
    assert np.asarray(Image.open(BytesIO(sent)).convert("L"))[:40, :150].mean() < 40


def test_nonsense_exif_does_not_lose_the_page(root):
    sheet().save(root / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert pages.load_page(root / "a.jpg", 0, [root]).shape == (440, 310, 3)


@pytest.mark.parametrize("name", ["set.tif", "set.pdf"])
def test_pages_come_in_order(root, name):
    sheets = [sheet(value=v) for v in (60, 120, 180)]
    sheets[0].save(root / name, save_all=True, append_images=sheets[1:], resolution=150)
    sheet(value=240).save(root / "last.png")
    got = pages.load_pages([root / name, root / "last.png"], [root], gray=True)
    assert [round(p[100:].mean() / 60) for p in got] == [1, 2, 3, 4]
    assert pages.count_pages(root / name, [root]) == 3
    with pytest.raises(ValueError, match="pages 0 to 2"):
        pages.load_page(root / name, 3, [root])
    with pytest.raises(ValueError, match="page=-1"):
        pages.load_page(root / name, -1, [root])
    data, mime = pages.page_bytes(root / name, 1, [root])
    assert mime == "image/jpeg" and abs(np.asarray(Image.open(BytesIO(data)))[100:].mean() - 120) < 4


# --- which files may be opened -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/etc/passwd", "../out.png", "../in2/x.png", "~root/x.png", "/dev/zero"])
def test_outside_the_roots_is_refused_whether_it_exists_or_not(root, path):
    (root.parent / "out.png").touch()
    with pytest.raises(PermissionError) as e:
        pages.load_page(path if path[0] in "/~" else root / path, 0, [root])
    assert str(root) in str(e.value) and "VOTE_EXPERIMENTS_ROOTS" in str(e.value) and "outside" in str(e.value)


def test_a_sibling_folder_with_the_same_beginning_is_outside(root):
    (root.parent / "in2").mkdir()
    sheet().save(root.parent / "in2" / "a.png")
    with pytest.raises(PermissionError):
        pages.load_page(root.parent / "in2" / "a.png", 0, [root])


def test_links_are_followed_before_comparing(root):
    sheet().save(root.parent / "secret.png")
    (root / "link.png").symlink_to(root.parent / "secret.png")
    (root / "folder").symlink_to(root.parent)
    sheet().save(root / "real.png")
    (root / "fine.png").symlink_to(root / "real.png")
    for bad in ("link.png", "folder/secret.png"):
        with pytest.raises(PermissionError):
            pages.page_bytes(root / bad, roots=[root])
    assert pages.load_page(root / "fine.png", 0, [root]).shape == (440, 310, 3)
    (root / "loop.png").symlink_to(root / "loop.png")
    with pytest.raises((ValueError, FileNotFoundError), match="loop.png"):
        pages.load_page(root / "loop.png", 0, [root])


def test_default_roots_are_the_settings(root, monkeypatch):
    sheet().save(root / "a.png")
    monkeypatch.chdir(root.parent)
    assert pages.load_page("in/a.png").shape == (440, 310, 3)
    (root / "elsewhere").mkdir()
    monkeypatch.chdir(root / "elsewhere")
    monkeypatch.delenv("VOTE_EXPERIMENTS_ROOTS", raising=False)
    with pytest.raises(PermissionError):
        pages.load_page(root / "a.png")
    monkeypatch.setenv("VOTE_EXPERIMENTS_ROOTS", os.pathsep.join(["/nowhere", str(root)]))
    assert pages.load_page(root / "a.png").shape == (440, 310, 3)


def test_missing_folder_pipe_and_strange_names(root):
    with pytest.raises(FileNotFoundError, match="page9.png"):
        pages.load_page(root / "page9.png", 0, [root])
    with pytest.raises(ValueError, match="folder"):
        pages.load_page(root, 0, [root])
    os.mkfifo(root / "pipe.png")
    with pytest.raises(ValueError, match="not a file"):
        pages.load_page(root / "pipe.png", 0, [root])
    with pytest.raises(ValueError, match="null"):
        pages.load_page(str(root / "a\0b.png"), 0, [root])
    with pytest.raises((ValueError, FileNotFoundError), match="xxxx"):
        pages.load_page(root / ("x" * 5000), 0, [root])


@pytest.mark.parametrize(
    "name",
    [
        "a\nb.png",
        'it\'s "quoted".png',
        "หน่วย ๑๒ หน้า ๑.png",
        "-rf.png",
        "%s{0}.png",
        "\u202egnp.png",
        "a b\t.png",
        "emoji 🗳.png",
    ],
)
def test_hostile_names_just_work(root, name):
    sheet().save(root / name, format="PNG")
    assert pages.load_pages([root / name], [root])[0].shape == (440, 310, 3)
    (root / name).write_bytes(b"no image")
    with pytest.raises(ValueError) as e:
        pages.load_page(root / name, 0, [root])
    assert "\n" not in str(e.value)


# --- files that cannot be used -----------------------------------------------------------------------------------


def test_a_200_megapixel_image_is_refused_from_its_header(root):
    (root / "bomb.png").write_bytes(png_promising(20_000, 10_000))
    with pytest.raises(ValueError, match=r"20,000 x 10,000 = 200.0 megapixels, more than the limit of 100.0"):
        pages.load_page(root / "bomb.png", 0, [root])
    with pytest.raises(ValueError, match="megapixels"):
        pages.page_bytes(root / "bomb.png", roots=[root])
    with pytest.raises(ValueError, match="megapixels"):
        pages.thumbnail(root / "bomb.png", roots=[root])


def test_an_honest_huge_image_is_refused_in_every_format(root):
    wide = Image.new("1", (4000, 4000))
    for name in ("a.png", "a.jpg", "a.tif", "a.webp", "a.pdf"):
        (wide if name[2:] in ("png", "tif") else wide.convert("L")).save(root / name, resolution=150)
        with pytest.raises(ValueError, match=r"16\.0 meg.*limit of 15\.0"):
            pages.load_page(root / name, 0, [root], max_pixels=15_000_000)


def test_a_large_limit_is_the_callers_choice(root):
    Image.new("1", (13_000, 10_000)).save(root / "big.png")
    shape = pages.load_page(root / "big.png", 0, [root], gray=True, max_pixels=140_000_000, max_side=500).shape
    assert shape == (385, 500)


def test_a_pdf_page_can_be_a_bomb_too(root):
    pypdfium2 = pytest.importorskip("pypdfium2")
    document = pypdfium2.PdfDocument.new()
    document.new_page(14_000, 14_000)
    document.save(root / "wall.pdf")
    with pytest.raises(ValueError, match="megapixels"):
        pages.load_page(root / "wall.pdf", 0, [root])
    assert pages.load_page(root / "wall.pdf", 0, [root], gray=True, max_side=300).shape == (300, 300)
    Image.new("L", (5000, 4000)).save(root / "dense.pdf", resolution=5000)  # 1 inch of paper, 20 megapixels inside
    with pytest.raises(ValueError, match="picture of 20.0 megapixels"):
        pages.load_page(root / "dense.pdf", 0, [root], max_pixels=10_000_000)


@pytest.mark.parametrize("size, word", [((20, 400), "below 32"), ((5, 5), "below 32"), ((40, 2000), "not a page")])
def test_tiny_or_absurdly_long_images(root, size, word):
    Image.new("L", size).save(root / "a.png")
    with pytest.raises(ValueError, match=word):
        pages.load_page(root / "a.png", 0, [root])


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.pdf"])
@pytest.mark.parametrize("share", [0.5, 0.98])
def test_truncated_files(root, name, share):
    noise = np.random.default_rng(0).integers(0, 255, (440, 310, 3)).astype(np.uint8)
    Image.fromarray(noise).save(root / name)
    data = (root / name).read_bytes()
    (root / name).write_bytes(data[: int(len(data) * share)])
    try:
        got = pages.load_page(root / name, 0, [root])
    except ValueError as e:
        assert name in str(e)
    else:  # PDFium repairs some; then a whole page comes back
        assert name == "a.pdf" and got.ndim == 3


def test_a_truncated_file_is_not_sent_to_a_model(root):
    sheet().save(root / "a.jpg")
    data = (root / "a.jpg").read_bytes()
    (root / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="truncated"):
        pages.page_bytes(root / "a.jpg", roots=[root])


@pytest.mark.parametrize(
    "data, word",
    [
        (b"", "empty"),
        (b"<html>404</html>", "not an image"),
        (b"GIF89a" + bytes(50), "not an image"),
        (b"%!PS-Adobe", "not an image"),
    ],
)
def test_what_is_not_an_image(root, data, word):
    (root / "a.jpg").write_bytes(data)
    with pytest.raises(ValueError, match=word):
        pages.load_page(root / "a.jpg", 0, [root])


def test_too_many_bytes(root):
    sheet().save(root / "a.png")
    with pytest.raises(ValueError, match="limit of 200"):
        pages.load_page(root / "a.png", 0, [root], max_bytes=200)
    with pytest.raises(ValueError, match="limit of 200"):
        pages.load_pages([root / "a.png"], [root], max_bytes=200)


def test_a_locked_or_broken_pdf(root):
    (root / "a.pdf").write_bytes(b"%PDF-1.7\n" + bytes(200))
    with pytest.raises(ValueError, match="a.pdf"):
        pages.count_pages(root / "a.pdf", [root])


def test_a_tiff_with_too_many_pages(root, monkeypatch):
    monkeypatch.setattr(pages, "MAX_PAGES", 4)
    one = sheet(40, 40)
    one.save(root / "a.tif", save_all=True, append_images=[one] * 5)
    with pytest.raises(ValueError, match="between 1 and 4"):
        pages.load_pages([root / "a.tif"], [root])


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_damaged_bytes_never_raise_anything_else(tmp_path_factory, name):
    root = tmp_path_factory.mktemp("damage").resolve()
    sheet(64, 90).save(root / name)
    whole = (root / name).read_bytes()

    @hsettings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=12))
    def damaged(changes):
        data = bytearray(whole)
        for where, value in changes:
            data[where] = value
        (root / name).write_bytes(data)
        try:
            got = pages.load_page(root / name, 0, [root], max_pixels=1_000_000)
        except ValueError as e:
            assert name in str(e)
        else:
            assert got.dtype == np.uint8 and got.ndim == 3

    damaged()


def test_max_side_shrinks_and_never_enlarges(root):
    sheet(1240, 1754).save(root / "a.jpg")
    assert max(pages.load_page(root / "a.jpg", 0, [root], gray=True, max_side=900).shape) == 900
    assert pages.load_page(root / "a.jpg", 0, [root], gray=True, max_side=9000).shape == (1754, 1240)
    data, mime = pages.page_bytes(root / "a.jpg", roots=[root], max_side=500)
    assert max(Image.open(BytesIO(data)).size) == 500 and mime == "image/jpeg"


def test_thumbnail(root):
    sheet(1240, 1754).save(root / "a.png")
    image = Image.open(BytesIO(pages.thumbnail(root / "a.png", 200, roots=[root])))
    assert image.format == "JPEG" and image.width == 200 and 280 <= image.height <= 285
    with pytest.raises(ValueError, match="width=0"):
        pages.thumbnail(root / "a.png", 0, roots=[root])


def test_pdf_pages_from_many_threads(root):
    "PDFium is not safe for threads; ours waits its turn"
    sheets = [sheet(value=v) for v in (60, 120, 180)]
    sheets[0].save(root / "set.pdf", save_all=True, append_images=sheets[1:])
    got = []
    threads = [
        threading.Thread(target=lambda: got.append(len(pages.load_pages([root / "set.pdf"], [root])))) for _ in range(6)
    ]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert got == [3] * 6


# ------------------------------------------------------------------------------- what people really have
def _fillable_pdf(path):
    "A PDF form with one text field whose value has no drawn appearance: only a form filler shows it"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [4 0 R] /DR << /Font << /Helv 5 0 R >> >> /DA (/Helv 40 Tf 0 g) >> >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Annots [4 0 R] /Resources << /Font << /Helv 5 0 R >> >> >>",
        b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (votes) /V (88888) /DA (/Helv 40 Tf 0 g) /Rect [50 80 250 140] /F 4 /P 3 0 R >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    out, places = b"%PDF-1.7\n", []
    for i, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (i, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + b"".join(b"%010d 00000 n \n" % p for p in places)
    path.write_bytes(out + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start))


def test_what_is_typed_into_a_pdf_form_is_drawn(root):
    _fillable_pdf(root / "form.pdf")
    gray = pages.load_page(root / "form.pdf", 0, [root], gray=True)
    k = gray.shape[1] / 300
    field = gray[round(60 * k) : round(120 * k), round(50 * k) : round(250 * k)]
    assert (field < 100).mean() > 0.05 and gray[: round(50 * k)].min() > 200  # ink in the field and nowhere else


def _tiff(path, kinds):
    "A TIFF with one image for each kind: page, thumbnail (by the new or the old tag), mask"
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags = {"page": {}, "thumbnail": {254: 1}, "old thumbnail": {255: 2}, "mask": {254: 4}}
    images, info = [], []
    for i, kind in enumerate(kinds):
        images.append(Image.new("L", (400, 500) if kind == "page" else (80, 100), 100 + 10 * i))
        directory = ImageFileDirectory_v2()
        for tag, value in tags[kind].items():
            directory[tag] = value
        info.append(directory)
    for image, directory in zip(images, info):
        image.encoderinfo = {"tiffinfo": directory}
    images[0].save(path, save_all=True, append_images=images[1:], tiffinfo=info[0])


@pytest.mark.parametrize(
    "kinds, shown",
    [
        (["page", "thumbnail"], [100]),
        (["thumbnail", "page", "page"], [110, 120]),
        (["page", "old thumbnail", "page", "mask"], [100, 120]),
        (["page", "page"], [100, 110]),
        (["thumbnail"], [100]),
    ],
)
def test_thumbnails_and_masks_in_a_tiff_are_no_pages(root, kinds, shown):
    _tiff(root / "scan.tif", kinds)
    assert pages.count_pages(root / "scan.tif", [root]) == len(shown)
    loaded = pages.load_pages([root / "scan.tif"], [root], gray=True)
    assert [int(p.mean()) for p in loaded] == shown
    assert [pages.page_bytes(root / "scan.tif", k, [root])[1] for k in range(len(shown))] == ["image/jpeg"] * len(shown)
    with pytest.raises(ValueError, match="the file holds pages"):
        pages.load_page(root / "scan.tif", len(shown), [root])


@pytest.mark.parametrize("mode, name", [("CMYK", "a.jpg"), ("I;16", "a.png")])
def test_models_get_colours_of_a_screen(root, mode, name):
    image = (
        sheet().convert("CMYK")
        if mode == "CMYK"
        else Image.fromarray(np.asarray(sheet().convert("L")).astype(np.uint16) * 257)
    )
    image.save(root / name)
    sent, mime = pages.page_bytes(root / name, roots=[root])
    opened = Image.open(io.BytesIO(sent))
    assert opened.mode in ("RGB", "L") and mime == "image/jpeg"
    assert abs(np.asarray(opened.convert("L")).astype(int)[60:].mean() - 230) < 6


HEIC = (  # 64 x 80 pixels of one blue
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAAAAAERA"
    "AAEAAQAAAAABegABAAAAAAAAABwAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA1mlwcnAAAAC3aXBjbwAA"
    "AHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoCCBRZbq"
    "SSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAUAAAABBwaXhpAAAAAAMICAgA"
    "AAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAACRtZGF0AAAAGCgBrxmA93yFN//3DmEe5Wb+0BXitCB6eQ=="
)


def test_a_heic_photograph_is_read_and_without_its_decoder_the_remedy_is_named(root, monkeypatch):
    pi_heif = pytest.importorskip("pi_heif", reason="the extra [heic] is not installed")
    (root / "photo.heic").write_bytes(base64.b64decode(HEIC))
    assert pages.load_page(root / "photo.heic", 0, [root]).shape == (80, 64, 3)
    assert np.abs(pages.load_page(root / "photo.heic", 0, [root]).mean((0, 1)) - (40, 90, 200)).max() < 8
    assert pages.page_bytes(root / "photo.heic", roots=[root])[1] == "image/jpeg"
    (root / "broken.heic").write_bytes(base64.b64decode(HEIC)[:200])
    with pytest.raises(ValueError, match="damaged"):
        pages.load_page(root / "broken.heic", 0, [root])
    monkeypatch.setattr(pages, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"is HEIC, which needs a decoder: pip install 'vote-experiments\[heic\]'"):
        pages.load_page(root / "photo.heic", 0, [root])
    assert pi_heif.__version__
