"""The configuration: checked against its schema, with sentences that name the key, the value and what is allowed."""

from __future__ import annotations

import difflib
import os
from datetime import date
from pathlib import Path

# What combining is called elsewhere (AstroDART, ccdproc), and here.
COMBINING = ("master_bias", "master_dark", "master_flat", "combine")
OTHER_KEYS = {
    "combining_method": "method",
    "clipping_method": "clip",
    "minclip": "low",
    "low_thresh": "low",
    "sigma_clip_low_thresh": "low",
    "minmax_clip_min": "low",
    "maxclip": "high",
    "high_thresh": "high",
    "sigma_clip_high_thresh": "high",
    "minmax_clip_max": "high",
}
OTHER_CLIPPINGS = {
    "sigma_clip": "sigclip",
    "sigmaclip": "sigclip",
    "sigma_clipping": "sigclip",
    "clip_extrema": "extrema",
    "extrema_clipping": "extrema",
    "minmax_clip": "minmax",
    "minmax_clipping": "minmax",
}
OTHER_METHODS = {"mean": {}, "scaled": {"scale": "level"}, "weighted": {"weight": "noise"}}  # averages all three


LONGEST = 200  # characters of a value that is told
DEEPEST = 40  # sections within each other
MOST = 20  # faults of a kind that are told
LARGEST = 1e300


class ConfigError(ValueError):
    """Something in the configuration is wrong; the message says what and how to mend it."""


def complete(config: dict, schema: dict) -> dict:
    """A copy of a configuration with all defaults filled in.

    Keys that are paths or names are taken as text, since `--config raw=230313` arrives as a number; `null` means the
    default. Raises ConfigError naming all faults at once.
    """
    from jsonschema import Draft202012Validator

    if unusable := [sentence for key, value in config.items() for sentence in _unusable(value, (str(key),))]:
        raise ConfigError("\n".join(unusable))
    config = _as_described({key: _translated(key, value) for key, value in config.items()}, schema)
    faults = sorted(
        Draft202012Validator(schema).iter_errors(config), key=lambda fault: list(map(str, fault.absolute_path))
    )
    if faults:
        raise ConfigError("\n".join(_sentence(fault) for fault in faults))
    if contradictions := list(_contradictions(config)):
        raise ConfigError("\n".join(f"configuration: {sentence}" for sentence in contradictions))
    if "results" in config:  # Snakemake wants one spelling of a path
        config["results"] = os.path.normpath(config["results"])
    return config


def _contradictions(config: dict):
    """What no schema tells of keys that are allowed one by one, as sentences."""
    for key in ("targets", "filters"):
        owners = {}
        for name, others in config.get(key, {}).items():
            for other in dict.fromkeys([name, *others]):
                text = other if key == "filters" else "".join(other.split()).casefold()
                if owners.setdefault(text, name) != name:
                    yield f"{key}: {_shown(other)} stands for both {owners[text]} and {name}: leave it with one of them"
    for name, section in config.items():
        if isinstance(section, dict) and section.get("clip") in ("auto", "sigclip"):
            for key in ("low", "high"):
                if section.get(key) is not None and section[key] <= 0:
                    yield (
                        f"{name}: {key} is {section[key]}, but clip {section['clip']} takes it for a number of deviations: "
                        "above 0, or clip none"
                    )
        if isinstance(section, dict) and section.get("clip") == "minmax":
            low, high = section.get("low"), section.get("high")
            if low is None or high is None or not low < high:
                values = [
                    f"{key} is {'null' if value is None else value}" for key, value in (("low", low), ("high", high))
                ]
                yield f"{name}: clip minmax keeps values from low to high, but {' and '.join(values)}: set both, low below high"
    yield from _sections(config)
    combine = config.get("combine", {})
    if combine.get("drizzle", {}).get("scale") and combine["method"] != "average":
        yield (
            f"combine: drizzle makes averages, but method is {combine['method']}: "
            "set it to average, or drizzle: scale to null"
        )


def _sections(config: dict):
    """Sections that fit no frame, as sentences."""
    from .section import disorder

    stated = [("trim: region", config.get("trim", {}).get("region"))]
    cameras = config.get("cameras", [])
    for camera in cameras if isinstance(cameras, list) else [cameras]:
        for key in ("trim", "overscan"):
            given = camera.get(key)
            stated += [(f"cameras: {key}", text) for text in (given if isinstance(given, list) else [given])]
    for key, text in stated:
        if wrong := text and disorder(text):
            yield f"{key} is {_shown(text)}: {wrong}"


def says(path) -> bool:
    """Whether there is a configuration file that says anything; one of comments alone does not.

    Raises ConfigError with the line where it is no YAML of keys, and where a key stands twice: YAML takes the last in silence.
    """
    import yaml

    try:
        text = Path(path).read_text()
        root = yaml.compose(text, yaml.SafeLoader)
        if root is None:
            return False
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{path} has no keys: each line is KEY: VALUE, for example raw: /data/2025-06-01")
        _once(path, root)
        yaml.load(text, yaml.SafeLoader)
    except FileNotFoundError:
        return False
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8: {error.reason} at byte {error.start}") from error
    except yaml.YAMLError as error:
        raise ConfigError(_no_yaml(path, error)) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: lists or sections lie in each other without end") from error
    return True


def _no_yaml(path, error) -> str:
    """What is wrong with a file that is no YAML, with the line where it was noticed."""
    mark = getattr(error, "problem_mark", None)
    where = f"{path}, line {mark.line + 1}" if mark else str(path)
    tab = "; tabs cannot indent, blanks can" if "\\t" in str(error) else ""
    return f"{where}: {getattr(error, 'problem', None) or 'no YAML'}{tab}"


def _once(path, node) -> None:
    """Raise ConfigError where a key stands twice in the same section, or a value looks like a date or number and is none."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        try:
            yaml.SafeLoader("").construct_object(node)
        except ValueError as error:
            where = f"{path}, line {node.start_mark.line + 1}"
            raise ConfigError(f"{where}: {_shown(node.value)} is no value ({error}): text stands in quotes") from error

    keys = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode) and key.value in keys:
            raise ConfigError(f"{path}, line {line}: {key.value} stands in line {keys[key.value]} already: say it once")
        if isinstance(key, yaml.ScalarNode):
            keys[key.value] = line
        _once(path, value)
    for item in node.value if isinstance(node, yaml.SequenceNode) else ():
        _once(path, item)


def read_schema(path) -> dict:
    """The schema file as a dict."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast, where it was built
    return yaml.load(Path(path).read_text(), loader)


def defaults(schema: dict) -> dict:
    """What a configuration is where nobody says anything."""
    return _as_described({}, schema)


def _translated(name: str, section):
    """A section on combining with other programs' names exchanged for ours, a catalogue's source as its section; all
    else as it is."""
    if name == "catalogue" and not isinstance(section, (dict, list, type(None))):
        return {"source": section}
    if name not in COMBINING or not isinstance(section, dict):
        return section
    out = {}
    for given, value in section.items():
        key = OTHER_KEYS.get(given, given)
        if key in out:
            both = " and ".join(one for one in section if OTHER_KEYS.get(one, one) == key)
            raise ConfigError(f"configuration: {name}: {both} are the same thing: keep {key} only")
        out[key] = value
    if isinstance(out.get("clip"), str):
        out["clip"] = OTHER_CLIPPINGS.get(out["clip"], out["clip"])
    if isinstance(out.get("method"), str) and out["method"] in OTHER_METHODS:
        meant = OTHER_METHODS[method := out.pop("method")]
        out["method"] = "average"
        for key, value in meant.items():
            if out.get(key) == "none":
                raise ConfigError(f"configuration: {name}: method {method!r} and {key} 'none' contradict each other")
            if name != "combine" and (name, key) != ("master_flat", "scale"):  # there it is so by default, or always
                out.setdefault(key, value)
    return out


def _types(schema: dict) -> list[str]:
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else types


def _plain(text: str, types: list[str]):
    """A number, true, false or null that arrived as text, as nested values of --config do; else the text itself."""
    import yaml

    kinds = {"number": (int, float), "integer": int, "boolean": bool, "null": type(None)}
    if len(text) > LONGEST:  # no number; and what is nested deeply ends the reader
        return text
    if "string" in types or not set(types) & set(kinds):
        return text
    try:
        value = None if text == "None" else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # a date that is none is a ValueError
        return text
    return value if any(isinstance(value, kinds[name]) for name in types if name in kinds) else text


def _as_described(value, schema: dict):
    """A value with the types and the defaults that the schema names; dates, which YAML makes of 2023-03-13, as text."""
    types = _types(schema)
    if isinstance(value, date):
        value = value.isoformat()
    if isinstance(value, str):
        value = _plain(value, types)
    if isinstance(value, dict) and (not types or "object" in types):
        described, others = schema.get("properties", {}), schema.get("additionalProperties")
        others = others if isinstance(others, dict) else {}
        given = {str(key): item for key, item in value.items()}
        out = {
            key: _as_described(item, described.get(key, others))
            for key, item in given.items()
            if item is not None or key not in described or "null" in _types(described[key])
        }
        for key, part in described.items():
            if key not in out and ("default" in part or "properties" in part):
                out[key] = _as_described(part.get("default", {}), part)
        return out
    if isinstance(value, list) and (not types or "array" in types):
        return [_as_described(item, schema.get("items", {})) for item in value]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if "array" in types and (number or isinstance(value, str)) and not {"string", "object"} & set(types):
        return [_as_described(value, schema.get("items", {}))]
    if "string" in types and number and not {"number", "integer"} & set(types):
        return str(value)
    return value


def _unusable(value, where: tuple[str, ...]) -> list[str]:
    """A sentence for each value, however deep, that no key can mean."""
    if len(where) > DEEPEST:
        return [f"configuration: {_place(where[:3])}: lists or sections lie in each other too deep"]
    if isinstance(value, dict):
        inner = ((str(key), part) for key, part in value.items())
    elif isinstance(value, list):
        inner = ((str(number), part) for number, part in enumerate(value))
    elif value is None or isinstance(value, (bool, date)):
        return []
    elif isinstance(value, str):
        return [f"configuration: {_place(where)}: {_shown(value)} has a zero byte in it"] if "\0" in value else []
    elif isinstance(value, (int, float)):
        finite = -LARGEST < value < LARGEST
        return [] if finite else [f"configuration: {_place(where)}: {_shown(value)} is not a finite number"]
    else:
        return [f"configuration: {_place(where)}: {_shown(value)} is neither text, number, date, list nor section"]
    return [sentence for key, part in inner for sentence in _unusable(part, (*where, key))][:MOST]


def _place(where) -> str:
    """The keys on the way to a value as one word, on one line."""
    text = ".".join(map(str, where))
    return text if text.isprintable() else repr(text)


def _shown(value) -> str:
    """A value as it stands in a sentence."""
    if isinstance(value, int) and abs(value) >= LARGEST:
        return "a number of more than 300 digits"
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _sentence(fault) -> str:
    where = _place(fault.absolute_path)
    if fault.validator == "additionalProperties":
        known = list(fault.schema.get("properties", {}))
        unknown = [key for key in fault.instance if key not in known]
        return "\n".join(_unknown(".".join(map(str, [*fault.absolute_path, key])), key, known) for key in unknown)
    value = f"{where}: {_shown(fault.instance)}"
    description = fault.schema.get("description", "") if isinstance(fault.schema, dict) else ""
    description = f" ({description})" if description else ""
    if fault.validator == "enum":
        return f"configuration: {value} is not one of {', '.join(map(str, fault.validator_value))}{description}"
    if fault.validator == "type":
        wanted = fault.validator_value if isinstance(fault.validator_value, str) else " or ".join(fault.validator_value)
        return f"configuration: {value} should be of type {wanted}{description}"
    if fault.validator == "pattern":
        return f"configuration: {value} is not of the form that is read here{description}"
    return f"configuration: {value}: {_cut(fault.message)}{description}"


def _unknown(where: str, key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(str(key), known, 1, 0.5)
    way_out = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    return f"configuration: unknown key {_shown(where)}: {way_out}"
