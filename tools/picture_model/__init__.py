"""How the bundled image model is made. One run, in the order of its steps:

`scenes` says what a picture shows and draws it; `captions`, `changes` and `examples` put tasks into words, which `words` gives
numbers; `slots` writes scenes as rows of numbers. `outline`, `find` and `compose` train the three networks of `model`; `export`
writes them as one ONNX file. `measure` asks the file what `tasks` holds and lets `judge` look at the answers; `card` writes the
model card and its pictures. At run time the file is driven by `aos/operator/images.py`.
"""
