"""The earlier public place of `midlayer_embed.register_family`."""

from midlayer_embed.models.families import register

__all__ = ["register"]
