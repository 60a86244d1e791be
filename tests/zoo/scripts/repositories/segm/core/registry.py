"""Classes by name."""


class Registry(dict):
    def register(self, cls):
        self[cls.__name__] = cls
        return cls

    def build(self, cfg, **more):
        cfg = dict(cfg)
        return self[cfg.pop("type")](**cfg, **more)


MODELS = Registry()
