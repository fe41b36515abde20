"""The site: where things are and who computes."""

from lstops.site.layout import Layout
from lstops.site.model import Site, load_site

__all__ = ["Layout", "Site", "load_site"]
