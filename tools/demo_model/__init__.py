"""How the bundled demo model is made. One run, in the order of its steps:

`corpus` reads the topic files; `paraphrase` turns their entries into questions and holds some back; `conversations`
draws dialogues from them, which `chat` spells in the model's markup; `tokenizer` learns the pieces of text; `packing`
fills rows; `train` finds the weights of `model` with `optimizer`; `export` writes the GGUF; `evaluate` measures it
through `runtime`, which is llama.cpp; `card` writes the model card.
"""
