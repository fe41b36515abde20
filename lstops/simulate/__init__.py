"""A synthetic observatory: nights and Monte Carlo with known truth, in lstchain's own formats.

Nothing here is imported by the rest of lstops; the modules that need lstchain import it when they are used, in the
science environment. Start at :mod:`lstops.simulate.plan` (what is made) and :mod:`lstops.simulate.site` (how).
"""
