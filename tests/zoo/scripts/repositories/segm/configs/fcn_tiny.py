"""A configuration that is code."""

crop = 16
num_classes = 3
model = dict(
    type="EncoderDecoder",
    backbone=dict(type="TinyResNet", width=8, norm_eval=False),
    decode_head=dict(type="FCNHead", in_channels=16, num_classes=num_classes, dropout=0.1, loss_weight=1.0),
    auxiliary_head=dict(type="FCNHead", in_channels=8, num_classes=num_classes, dropout=0.0, loss_weight=0.4),
)
data = dict(root="data", samples_per_gpu=4, workers_per_gpu=0, ignore_index=255)
optimizer = dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0005)
paramwise = dict(head_lr_mult=10.0)
lr_config = dict(policy="poly", power=0.9, min_lr=1e-4)
runner = dict(type="IterBasedRunner", max_iters=24)
checkpoint = dict(interval=6)
evaluation = dict(interval=6, metric="mIoU", save_best="mIoU")
