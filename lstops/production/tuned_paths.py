"""Where the products of a tuned production lie, relative to the site's base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from lstops.production.grid import Particle
from lstops.production.inventory import Dataset, McFile
from lstops.site.layout import Layout


@dataclass(frozen=True)
class TunedPaths:
    """Paths of one declination line of a production."""

    layout: Layout
    production: str
    line: str

    @property
    def config(self) -> str:
        """The lstchain configuration with the tuned NSB."""
        return self.layout.mc_config(self.production)

    @property
    def tuning(self) -> str:
        """Value, uncertainty and source of the NSB tuning."""
        return f"mc/DL1/AllSky/{self.production}/nsb_tuning_{self.production}.json"

    @property
    def models(self) -> str:
        """Folder of the random forests."""
        return self.layout.models(self.production, self.line)

    def dl1(self, file: McFile) -> str:
        """Tuned DL1: the name of the base file, with the node in it (merging needs names that differ)."""
        name = PurePosixPath(file.path).name
        if str(file.pointing) not in name:
            name = f"{PurePosixPath(name).stem}_{file.pointing}.h5"
        if file.dataset is Dataset.TRAIN:
            folder = self.layout.mc_dl1_train(self.production, self.line, file.particle.value, file.node)
        else:
            folder = self.layout.mc_dl1_test(self.production, file.particle.value, file.node)
        return f"{folder}/{name}"

    def merged_train(self, particle: Particle) -> str:
        """Merged training DL1 of a particle."""
        return self.layout.mc_dl1_train_merged(self.production, self.line, particle.value)

    def test_dl1(self, files: Sequence[McFile]) -> str:
        """DL1 of the test node that has these files: merged if they are several."""
        if len(files) == 1:
            return self.dl1(files[0])
        node = files[0].node
        folder = self.layout.mc_dl1_test(self.production, files[0].particle.value, node)
        return f"{folder}/dl1_{self.production}_{node}_merged.h5"

    def test_dl2(self, files: Sequence[McFile]) -> str:
        """DL2 of the test node that has these files."""
        name = PurePosixPath(self.test_dl1(files)).name.replace("dl1", "dl2", 1)
        folder = self.layout.mc_dl2_test(self.production, files[0].particle.value, self.line, files[0].node)
        return f"{folder}/{name}"

    def irf(self, node: str, cuts: str) -> str:
        """Instrument response of a test node; all nodes of a cut set share a folder, as interpolation needs."""
        folder = self.layout.irf_dir(self.production, Particle.GAMMA.value, self.line, cuts)
        return f"{folder}/irf_{self.production}_{node}.fits.gz"
