"""Steps, plans, manifests, the runner and the verifiers."""
