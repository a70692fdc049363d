"""Class names of the large data sets, in the order of the class numbers.

Sources: CSAILVision/sceneparsing objectInfo150.txt, nightrome/cocostuff labels.txt, and `atts` of
face-parsing.PyTorch.
"""

import re
from collections.abc import Sequence


def _names(text: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in text.split(","))


# The first name of each line of objectInfo150.txt.
ADE20K_NAMES: tuple[str, ...] = _names(
    """
    wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk,
    person, earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa,
    shelf, house, sea, mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp,
    bathtub, railing, cushion, base, box, column, signboard, chest of drawers, counter, sand,
    sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table,
    pillow, screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower,
    book, hill, bench, countertop, stove, palm, kitchen island, computer, swivel chair, boat, bar,
    arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight,
    booth, television, airplane, dirt track, apparel, pole, land, bannister, escalator,
    ottoman, bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer,
    plaything, swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven,
    ball, food, step, tank, trade name, microwave, pot, animal, bicycle, lake, dishwasher, screen,
    blanket, sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan, pier, crt screen,
    plate, monitor, bulletin board, shower, radiator, glass, clock, flag
    """
)

# COCO's 80 things, then COCO-Stuff's 91 stuff classes, without the 11 ids of labels.txt that COCO
# has removed (`data.prepare.coco_stuff164k.UNUSED_IDS`).
COCO_STUFF_NAMES: tuple[str, ...] = _names(
    """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light,
    fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant,
    bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard,
    sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle,
    wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
    hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop,
    mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock,
    vase, scissors, teddy bear, hair drier, toothbrush, banner, blanket, branch, bridge,
    building-other, bush, cabinet, cage, cardboard, carpet, ceiling-other, ceiling-tile, cloth,
    clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt, door-stuff, fence, floor-marble,
    floor-other, floor-stone, floor-tile, floor-wood, flower, fog, food-other, fruit,
    furniture-other, grass, gravel, ground-other, hill, house, leaves, light, mat, metal,
    mirror-stuff, moss, mountain, mud, napkin, net, paper, pavement, pillow, plant-other, plastic,
    platform, playingfield, railing, railroad, river, road, rock, roof, rug, salad, sand, sea,
    shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, straw, structural-other, table,
    tent, textile-other, towel, tree, vegetable, wall-brick, wall-concrete, wall-other, wall-panel,
    wall-stone, wall-tile, wall-wood, water-other, waterdrops, window-blind, window-other, wood
    """
)

# In the order of face-parsing.PyTorch and its published weights.
CELEBA_MASK_NAMES: tuple[str, ...] = _names(
    """
    background, skin, l_brow, r_brow, l_eye, r_eye, eye_g, l_ear, r_ear, ear_r, nose, mouth,
    u_lip, l_lip, neck, neck_l, cloth, hair, hat
    """
)

# A lone l is at an end of the name (l_eye, "hand L", eyeL); the word may be anywhere.
_LEFT = ("left", "right"), (r"^l(?=[_ .-])|(?<=[_ .-])l$", "r"), (r"(?<=[a-z])L$", "R")


def left_right_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of class numbers whose names differ in left and right only: l_eye and r_eye."""
    numbers = {name.lower(): number for number, name in enumerate(names)}
    pairs = []
    for number, name in enumerate(names):
        for left, right in _LEFT:
            text = name if left.endswith("L$") else name.lower()
            other = numbers.get(re.sub(left, right, text).lower(), number)
            if other != number:
                pairs.append((number, other))
                break
    return tuple(pairs)
