"""ImageNet-C's fifteen corruptions (Hendrycks and Dietterich 2019)."""
