"""Configs of dry runs at a size that compiles in seconds."""

from configs import vlbert_pretrain


def small(module, **dry):
    config = module.get_config(
        "size=mini,data=jsonl" if "pretrain" in module.__name__ else "size=mini"
    )
    config.model.update(hidden=16, heads=2, intermediate=32)
    config.streams.captions.update(batch_size=16, max_text=8, max_regions=6, max_length=12)
    for block in config.evals.values():
        block.batch_size = 16
    config.mesh.update(data=2, fsdp=2, tensor=2)
    config.dry_run.update(topology="cpu:8", assume=True, **dry)
    return config


def again(**dry):
    config = small(vlbert_pretrain)
    config.dry_run.update(dry)
    return config
