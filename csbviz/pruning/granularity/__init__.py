"""Units of pruning, one module each; `csbviz.pruning.registry` lists them."""
