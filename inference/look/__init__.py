"""Attention of a model on one text and one image, as one static page.

  python -m inference RUN look "a red cube" --image=ID --regions=STORE --out=page.html
  python -m inference.look --image=ID --regions=STORE --out=page.html   # regions, without a model

The page holds everything: it loads nothing, and needs no server.
"""
