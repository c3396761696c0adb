"""The cosine below which nothing in an index looks like a text, learnt from the index itself.

Each of several hundred things of many kinds is searched for. Most of them are in no picture of a
collection, so that the lower half of their best cosines shows what a text reaches that has no
answer: the cut-off lies `DEVIATIONS` above their median, a deviation being the distance from the
median down to the 16th percentile. It is learnt anew when the index changes.
"""

from __future__ import annotations

import numpy as np

from tfclip.evaluation.embedding.cache import RunEmbeddings
from tfclip.evaluation.search import store
from tfclip.evaluation.search.index import SearchIndex
from tfclip.evaluation.search.nearest import CHUNK

DEVIATIONS = 2.5
PROMPT = "a photo of a {}."
ENTRY = "cut_off"
THINGS = tuple(
    """\
accordion, acorn, airplane, alligator, ambulance, anchor, ant, anvil, apple, aquarium, arch,
armchair, artichoke, asparagus, astronaut, avocado, axe, backpack, bagel, balloon, banana,
banjo, barn, barrel, basket, bat, bathtub, battery, bear, beaver, bed, bee, beetle, bell, bench,
bicycle, billboard, binoculars, bird, biscuit, blackboard, blender, boat, bonfire, book,
bookshelf, boot, bottle, bowl, box, bracelet, brain, bread, brick, bridge, broccoli, broom,
bucket, building, bulldozer, bus, butterfly, button, cabbage, cabin, cactus, cage, cake,
calculator, calendar, camel, camera, candle, cannon, canoe, canyon, car, carpet, carrot,
cartoon, castle, cat, caterpillar, cathedral, cave, ceiling, cello, chain, chair, chalk,
chandelier, cheese, cherry, chessboard, chicken, chimney, church, clarinet, clock, cloud, clown,
coat, coconut, coffee, coin, comb, compass, computer, concert, cookie, corn, couch, cow, crab,
cradle, crane, crayon, crocodile, crown, cube, cucumber, cup, curtain, cushion, dandelion, deer,
desert, desk, diagram, diamond, dinosaur, dishwasher, dog, doll, dolphin, donkey, donut, door,
dragon, dress, drill, drum, duck, dumpling, eagle, ear, earring, egg, elephant, elevator,
engine, envelope, escalator, eye, face, factory, feather, fence, fern, fire, firework, fish,
flag, flamingo, flashlight, flower, flute, forest, fork, fountain, fox, frog, fruit, garage,
garden, garlic, gate, giraffe, glacier, glass, globe, glove, goat, goose, gorilla, grape, graph,
guitar, hammer, hammock, hamster, harbour, harp, hat, headphones, hedgehog, helicopter, helmet,
highway, hill, horse, hospital, hotel, house, hurricane, iceberg, igloo, insect, iron, island,
jacket, jellyfish, jewel, jungle, kangaroo, kettle, key, keyboard, kitchen, kite, kiwi, knife,
koala, ladder, lake, lamp, laptop, lavender, leaf, lemon, leopard, letter, library, lighthouse,
lightning, lion, lipstick, lizard, lobster, lock, logo, magnet, magnifying glass, mango, map,
mask, mattress, meadow, meat, medal, melon, microphone, microscope, microwave, milk, mirror,
mobile phone, monkey, moon, mosque, moth, motorcycle, mountain, mouse, mug, mushroom, nail,
necklace, needle, nest, newspaper, notebook, nut, ocean, octopus, office, olive, onion, orange,
orchestra, ostrich, oven, owl, paintbrush, painting, palm tree, pancake, panda, paper,
parachute, parrot, peacock, peanut, pear, pen, pencil, penguin, piano, pie, pig, pigeon, pillow,
pineapple, pipe, pizza, plane, planet, plate, playground, plum, poppy, porcupine, poster, pot,
potato, pumpkin, puppet, purse, puzzle, pyramid, rabbit, raccoon, radio, railway, rainbow,
refrigerator, restaurant, rice, ring, river, road, robot, rocket, rooster, rope, rose, rug,
ruler, runway, saddle, sailing boat, salad, sandwich, satellite, saw, saxophone, scarf, school,
scissors, scooter, scorpion, sculpture, seal, shark, sheep, shelf, shell, ship, shirt, shoe,
shop, shovel, shower, shrimp, sink, skeleton, skyscraper, snail, snake, soap, sofa, soup,
spider, spoon, squirrel, stadium, stairs, stamp, star, statue, stove, strawberry, submarine,
suitcase, sun, sunflower, supermarket, surgeon, swan, sweater, swimming pool, sword, syringe,
table, tank, taxi, tea, teapot, teddy bear, telephone, telescope, television, temple, tent,
theatre, tiger, tie, toaster, toilet, tomato, toothbrush, tornado, towel, tower, tractor, train,
treadmill, tree, trophy, truck, trumpet, tulip, tunnel, turkey, turtle, typewriter, umbrella,
vacuum cleaner, valley, vase, violin, volcano, vulture, wallet, warehouse, washing machine,
watch, waterfall, watermelon, weapon, whale, wheel, wheelchair, windmill, window, wine, wolf,
workshop, worm, wrench, yacht, zebra
""".replace("\n", " ")
    .strip()
    .split(", ")
)


def best_cosines(embeddings: np.ndarray, texts: np.ndarray, chunk: int = CHUNK) -> np.ndarray:
    """Return the largest cosine of each text with any row.

    Args:
        embeddings: (N,D) of unit norm, may be memory-mapped.
        texts: (M,D) of unit norm.
        chunk: rows in memory at a time.

    Returns:
        (M,) float32.
    """
    best = np.full(len(texts), -1.0, np.float32)
    for start in range(0, len(embeddings), chunk):
        np.maximum(best, (embeddings[start : start + chunk] @ texts.T).max(axis=0), out=best)
    return best


def cut_off_of(best: np.ndarray) -> float:
    """Return the cut-off from the best cosines of things, (M,).

    >>> cut_off_of(np.array([0.1, 0.2, 0.3, 0.4, 0.9]))
    0.7
    """
    low, median = np.percentile(best, (16, 50))
    return round(float(median + DEVIATIONS * (median - low)), 4)


def learnt_cut_off(index: SearchIndex) -> float | None:
    """Return the cut-off of an index: the stored one, or one that is learnt now and stored.

    The texts are embedded once for each model. Returns None where the model cannot embed them.
    """
    known = index.description.get(ENTRY)
    if known is not None:
        return float(known)
    try:
        texts = RunEmbeddings(index.run).texts([PROMPT.format(thing) for thing in THINGS])
    except ValueError:  # A context too short for a sentence.
        return None
    learnt = cut_off_of(best_cosines(index.embeddings, texts))
    if index.place.is_dir():
        try:
            with store.writing(index.place):
                if store.read_description(index.place)["token"] == index.description["token"]:
                    store.renew(index.place, {ENTRY: learnt})
        except (OSError, ValueError):  # A folder that is read-only, or is being written.
            pass
    return learnt
