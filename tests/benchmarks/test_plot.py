from xml.etree.ElementTree import Element, fromstring

from benchmarks.plot import LABELS, NUMBERS, WIDTH, bars

GROUPS = {"GET": [("ours", 400.0), ('"ok" & <stock>', 100.0)], "POST": [("ours", 200.0)]}


SVG = "{http://www.w3.org/2000/svg}"


def drawn() -> Element:
    return fromstring(bars("CPU", GROUPS))  # noqa: S314 -- we wrote it ourselves


def test_bars_are_as_long_as_their_values_and_the_longest_fits() -> None:
    widths = [float(rect.attrib["width"]) for rect in drawn().findall(f"{SVG}rect")[1:]]
    longest = WIDTH - LABELS - NUMBERS
    assert widths == [longest, longest / 4, longest / 2]


def test_one_label_has_one_colour_and_another_has_another() -> None:
    ours, stock, ours_again = (rect.attrib["fill"] for rect in drawn().findall(f"{SVG}rect")[1:])
    assert ours == ours_again != stock


def test_words_are_written_as_they_are() -> None:
    words = [text.text for text in drawn().iter(f"{SVG}text")]
    assert words == ["CPU", "GET", "ours", "400", '"ok" & <stock>', "100", "POST", "ours", "200"]


def test_everything_is_drawn_within_the_picture() -> None:
    document = drawn()
    ends = [float(each.attrib["y"]) for each in document.iter(f"{SVG}text")]
    assert max(ends) < int(document.attrib["height"])


def test_nothing_measured_is_an_empty_picture() -> None:
    assert "<svg" in bars("nothing", {})
