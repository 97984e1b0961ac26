"""How words on the command line become numbers."""

import re
from typing import Any

from ushape.config.header import PixelSize
from ushape.errors import ConfigError


def parse_duration(text: str) -> float:
    """Seconds in a duration such as `90s`, `10m`, `1.5h` or `1h30m`; a bare number is seconds.

    Raises
    ------
    ConfigError
        If `text` is not a positive duration.

    Examples
    --------
    >>> parse_duration("10m"), parse_duration("1h30m"), parse_duration("45")
    (600.0, 5400.0, 45.0)
    """
    seconds = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip().lower())
    total = sum(float(number) * seconds[unit] for number, unit in parts)
    if "".join(n + u for n, u in parts) != re.sub(r"\s", "", text.lower()) or total <= 0:
        raise ConfigError(f"not a duration: {text!r}; write for example 90s, 10m or 1.5h")
    return total


def parse_until(text: str) -> tuple[str, float | None]:
    """Name and value in `METRIC=VALUE`, or `stalled` without one.

    Raises
    ------
    ConfigError
        If `text` is neither, or the value is not that of a score.

    Examples
    --------
    >>> parse_until("v_rand=0.96"), parse_until("stalled")
    (('v_rand', 0.96), ('stalled', None))
    """
    if text.strip() == "stalled":
        return "stalled", None
    metric, _, value = (part.strip() for part in text.partition("="))
    if not re.fullmatch(r"\d*\.?\d+", value) or not metric:
        raise ConfigError(f"not a goal: {text!r}; write for example v_rand=0.96, dice=0.9 or stalled")
    if float(value) > 1:
        raise ConfigError(
            f"no score reaches {value}, they lie between 0 and 1; write for example {metric}=0.9"
        )
    return metric, float(value)


def parse_bytes(text: str) -> int:
    """Bytes in a size such as `4GB`, `512MB` or `1.5GiB`; a bare number is bytes.

    Raises
    ------
    ConfigError
        If `text` is not a positive size.

    Examples
    --------
    >>> parse_bytes("4GB"), parse_bytes("1GiB")
    (4000000000, 1073741824)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    size = (
        float(match[1]) * (1024 if match[3] else 1000) ** ("kmgt".find(match[2]) + 1 if match[2] else 0)
        if match
        else 0
    )
    if size < 1:
        raise ConfigError(f"not a size in bytes: {text!r}; write for example 4GB or 512MB")
    return int(size)


def parse_pixel_size(given: float | str | PixelSize) -> PixelSize:
    """Height and width of a pixel in micrometres, such as 0.5 or "0.5,0.4".

    Raises
    ------
    ConfigError
        If they are not one or two numbers above 0.

    Examples
    --------
    >>> parse_pixel_size(0.5), parse_pixel_size("0.5,0.4")
    ((0.5, 0.5), (0.5, 0.4))
    """
    parts = given if isinstance(given, tuple) else str(given).split(",")
    try:
        sizes = [float(part) for part in parts]
    except ValueError:
        sizes = []
    if len(sizes) not in (1, 2) or not all(0 < size < float("inf") for size in sizes):
        raise ConfigError(f"--pixel-size {given} is not valid; give micrometres: 0.5, or height,width")
    return sizes[0], sizes[-1]


def parse_area(text: str) -> dict[str, Any]:
    """Settings of `Postprocessing` for a smallest area such as `30` (pixels) or `7.5um2`.

    Raises
    ------
    ConfigError
        If `text` is not an area.

    Examples
    --------
    >>> parse_area("30"), parse_area("7.5um2")
    ({'min_area': 30, 'min_area_um2': None}, {'min_area': 0, 'min_area_um2': 7.5})
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(px|um2)?", text.strip().lower())
    if match is not None and match[2] == "um2":
        return {"min_area": 0, "min_area_um2": float(match[1])}
    if match is not None and match[1].isdigit():
        return {"min_area": int(match[1]), "min_area_um2": None}
    raise ConfigError(f"not an area: {text!r}; write for example 30 (whole pixels) or 30um2")


def parse_split(text: str) -> dict[str, Any]:
    """Settings of `Postprocessing` for `none`, `probability`, `distance`, or with seeds `distance:1.5`.

    Raises
    ------
    ConfigError
        If `text` is none of these.

    Examples
    --------
    >>> parse_split("distance"), parse_split("probability:0.9")
    ({'split': 'distance'}, {'split': 'probability', 'seed_threshold': 0.9})
    """
    match = re.fullmatch(r"none|(probability|distance)(?::(\d+(?:\.\d+)?))?", text.strip().lower())
    if match is None:
        raise ConfigError(
            f"not a way to split objects: {text!r}; write none, probability or distance, or with the height "
            "of the seeds probability:0.9 or distance:1.5"
        )
    if match[2] is None:
        return {"split": match[1] or "none"}
    seeds = {"probability": "seed_threshold", "distance": "seed_depth_px"}
    return {"split": match[1], seeds[match[1]]: float(match[2])}
