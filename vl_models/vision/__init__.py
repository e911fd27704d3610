"""Pictures to features of their regions: convolutions, RoIAlign, and what is built of them."""
