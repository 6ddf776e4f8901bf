"""Clean texts from elsewhere: what is left is plain lines, for a reader and for a tokenizer.

It knows nothing of dialogues, and of a text's meaning only that in clinical ones "<" is a number's sign.
"""

from __future__ import annotations

import html
import re

_TAGS = (
    "a|abbr|address|article|aside|b|blockquote|body|br|button|center|cite|code|dd|del|details|div|dl|dt|em|figure|font|"
    "footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|li|link|main|mark|meta|nav|ol|option|p|"
    "pre|q|s|samp|section|select|small|span|strike|strong|sub|summary|sup|table|tbody|td|textarea|tfoot|th|thead|"
    "title|tr|tt|u|ul|var|video"
)
_BLOCKS = "address|article|blockquote|br|dd|div|dl|dt|h[1-6]|hr|li|ol|p|pre|section|table|tr|ul"
_ATTRIBUTES = r"(?:\s[^<>]*=[^<>]*)?\s*/?>"
_HIDDEN = re.compile(r"<!--.*?-->|<(script|style)\b[^<>]*>.*?</\1\s*>", re.I | re.S)
_BLOCK = re.compile(rf"</?(?:{_BLOCKS}){_ATTRIBUTES}", re.I)
_INLINE = re.compile(rf"</?(?:{_TAGS}){_ATTRIBUTES}", re.I)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.I)
_SPECIAL = re.compile(r"<[|｜][^<>]{0,60}?[|｜]>|\[/?INST\]|<</?SYS>>")
_FENCE = re.compile(r"^\s*(?:```|~~~)[\w+-]*\s*$", re.M)


def clean(text: str) -> str:
    """Return a text as plain lines: no markup, no entities, nothing invisible, nothing a tokenizer would obey.

    Only HTML's own tags with nothing but attributes in them go, for in clinical text "<" is a number's sign.
    Fence lines go and their content stays. Line breaks stay, since an answer may be one item a line. It goes
    round until nothing changes, so that what was escaped twice or hidden in itself does not come back.

    >>> clean("<p>K&nbsp;&lt;3.5 and Na>150:<br/>give&#8203; <b>KCl</b></p><|eot_id|>")
    'K <3.5 and Na>150:\\ngive KCl'
    """
    while (cleaner := _clean_once(text)) != text:
        text = cleaner
    # As in a rendered prompt: what still begins like a special token must not become one.
    return text.replace("<|", "< |")


def _clean_once(text: str) -> str:
    text = _INLINE.sub("", _BLOCK.sub("\n", _HIDDEN.sub(" ", text)))
    text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    text = _FENCE.sub("", _SPECIAL.sub(" ", text))
    lines = (" ".join(_visible(line).split()) for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _visible(line: str) -> str:
    """Drop control, format and unassigned characters and halves of surrogate pairs; white space stays."""
    return line if line.isprintable() else "".join(c for c in line if c.isprintable() or c.isspace())
