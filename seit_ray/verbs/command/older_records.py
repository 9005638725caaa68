"""Runs that were begun with keys that nothing reads, before these were refused: the same command continues them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from seit_ray.config import Finetune, FitTokenizer, Pretrain, Section, Verb, deciding_keys
from seit_ray.storage import Folder
from seit_ray.verbs.command.pretrain_checks import check_sections
from seit_ray.verbs.command.unread import UnreadKey, check_augment_keys, check_finetune_keys, check_fit_keys

Given = TypeVar("Given", bound=Section)


def check_pretrain_keys(config: Pretrain) -> None:
    """ValueError for keys that a pre-training does not read."""
    check_sections(config)
    check_augment_keys(config)


CHECKS: dict[type[Verb], Callable[[Any], None]] = {  # by the config alone, nothing is looked at
    Pretrain: check_pretrain_keys,
    Finetune: lambda config: check_finetune_keys(config, starts=bool(config.init_from)),
    FitTokenizer: check_fit_keys,
}


def unread_keys(config: Verb) -> set[str]:
    """The keys, in dotted form, that say something and that nothing reads."""
    found: set[str] = set()
    check = CHECKS.get(type(config))
    while check is not None:
        try:
            check(config)
        except UnreadKey as error:
            found.add(error.key)
            config = with_values(config, {error.key: None}, default=True)
            continue
        except ValueError:  # of another kind, which the verb says itself
            pass
        return found
    return found


def unread_in(config: Verb, before: Mapping[str, Any]) -> set[str]:
    """Those of a config in which these keys have the values that a record says."""
    known = {key for key, _ in deciding_keys(type(config))}
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in before.items() if key in known}
    return unread_keys(with_values(config, values)) & set(values)


def as_recorded(config: Given, folder: Folder, verb: str) -> Given:
    """A verb's config with the default of what nothing reads, as far as the record in its folder says the same.

    For the checks: a run that was begun so goes on by the same command.
    """
    from seit_ray.verbs.command.record import decided_by, recorded_by

    assert isinstance(config, Verb)
    unread = unread_keys(config)
    recorded = (recorded_by(folder, verb) if unread else None) or {}
    mine = decided_by(config) if recorded else {}
    same = {key for key in unread if key in recorded and recorded[key] == mine[key]}
    return with_values(config, dict.fromkeys(same), default=True)


def with_values(config: Given, values: Mapping[str, Any], *, default: bool = False) -> Given:
    """A copy with other values of these keys in dotted form, or with their defaults; nothing is validated."""
    for key, value in values.items():
        name, _, rest = key.partition(".")
        if rest:
            inner = with_values(getattr(config, name), {rest: value}, default=default)
        else:
            inner = type(config).model_fields[name].get_default(call_default_factory=True) if default else value
        config = config.model_copy(update={name: inner})
    return config
