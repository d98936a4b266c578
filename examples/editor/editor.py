"""What the nodes of the editor do: each reads its input as JSON on stdin and writes what it comes to on stdout."""

import json
import sys

TYPOS = {"teh": "the", "adn": "and", "recieve": "receive"}


def normalise(request: object) -> str:
    """Tell what is asked for, and by which route."""
    words, colon, text = str(request).partition(":")
    route = "edit" if colon and words.strip().lower() == "edit" else "create"
    return json.dumps({"route": route, "text": " ".join((text if colon else words).split())})


def create(given: dict[str, str]) -> str:
    """Write a first draft."""
    return f"A draft of {given['text']}."


def edit(given: dict[str, str]) -> str:
    """Mend what was handed in."""
    return " ".join(TYPOS.get(word, word) for word in given["text"].split())


def summarise(parts: list[dict[str, str]]) -> str:
    """Count what was drafted."""
    text = parts[0]["output"]
    return json.dumps({"draft": text, "words": len(text.split()), "by": parts[0]["node_id"]})


if __name__ == "__main__":
    perform = {"normalise": normalise, "create": create, "edit": edit, "summarise": summarise}[sys.argv[1]]
    print(perform(json.load(sys.stdin)))
