"""Former location of `midlayer_embed.register_family`, kept for existing imports."""

from midlayer_embed.models.discovery import register

__all__ = ["register"]
