"""How a conversation is spelled for the model: ChatML, the template that says so, and the special tokens."""

from __future__ import annotations

from tools.demo_model.conversations import Conversation

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

SPECIAL = (END_OF_TEXT, IM_START, IM_END)
"""Control tokens in the order of their ids, which come first in the vocabulary."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The same spelling as `pieces`, as Jinja; llama.cpp recognises it as ChatML."""


def pieces(conversation: Conversation) -> list[tuple[str, bool]]:
    """(text, learn?) in order: what the model must be able to say itself is marked True."""
    if conversation.raw:
        (_, prompt), (_, answer) = conversation.messages
        return [(prompt, False), ("\n" + answer + IM_END, True)]
    spelled = []
    for role, content in conversation.messages:
        if role == "assistant":
            spelled += [(f"{IM_START}assistant\n", False), (content + IM_END, True), ("\n", False)]
        else:
            spelled.append((f"{IM_START}{role}\n{content}{IM_END}\n", False))
    return spelled


def prompt(messages: list[tuple[str, str]]) -> str:
    """The messages as the template spells them, up to where the answer begins."""
    turns = "".join(f"{IM_START}{role}\n{content}{IM_END}\n" for role, content in messages)
    return f"{turns}{IM_START}assistant\n"
