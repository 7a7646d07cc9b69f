"""The free text of generated events: invented people, places and goods, and real country names.

Invariant: all words are plain ASCII without quotes. Names and cities are composed, so that they are nearly unique per
event and have the average length of the real load.
"""

from random import Random

_COUNTRIES = """
Afghanistan|Aland Islands|Albania|Algeria|American Samoa|Andorra|Angola|Anguilla|Antarctica|Antigua and Barbuda|
Argentina|Armenia|Aruba|Australia|Austria|Azerbaijan|Bahamas|Bahrain|Bangladesh|Barbados|Belarus|Belgium|Belize|
Benin|Bermuda|Bhutan|Bolivia|Bosnia and Herzegovina|Botswana|Bouvet Island|Brazil|
British Indian Ocean Territory|British Virgin Islands|Brunei Darussalam|Bulgaria|Burkina Faso|Burundi|Cambodia|
Cameroon|Canada|Cape Verde|Caribbean Netherlands|Cayman Islands|Central African Republic|Chad|Chile|China|
Christmas Island|Cocos (Keeling) Islands|Colombia|Comoros|Congo|Cook Islands|Costa Rica|Cote d'Ivoire|Croatia|Cuba|
Curacao|Cyprus|Czechia|Democratic People's Republic of Korea|Democratic Republic of the Congo|Denmark|Djibouti|
Dominica|Dominican Republic|Ecuador|Egypt|El Salvador|Equatorial Guinea|Eritrea|Estonia|Eswatini|Ethiopia|
Falkland Islands (Malvinas)|Faroe Islands|Fiji|Finland|France|French Guiana|French Polynesia|
French Southern Territories|Gabon|Gambia|Georgia|Germany|Ghana|Gibraltar|Greece|Greenland|Grenada|Guadeloupe|Guam|
Guatemala|Guernsey|Guinea|Guinea-Bissau|Guyana|Haiti|Heard Island and McDonald Islands|Holy See|Honduras|Hong Kong|
Hungary|Iceland|India|Indonesia|Iran|Iraq|Ireland|Isle of Man|Israel|Italy|Jamaica|Japan|Jersey|Jordan|Kazakhstan|
Kenya|Kiribati|Kuwait|Kyrgyz Republic|Lao People's Democratic Republic|Latvia|Lebanon|Lesotho|Liberia|Libya|
Liechtenstein|Lithuania|Luxembourg|Macao|Madagascar|Malawi|Malaysia|Maldives|Mali|Malta|Marshall Islands|
Martinique|Mauritania|Mauritius|Mayotte|Mexico|Micronesia|Moldova|Monaco|Mongolia|Montenegro|Montserrat|Morocco|
Mozambique|Myanmar|Namibia|Nauru|Nepal|Netherlands|New Caledonia|New Zealand|Nicaragua|Niger|Nigeria|Niue|
Norfolk Island|North Macedonia|Northern Mariana Islands|Norway|Oman|Pakistan|Palau|Palestine|Panama|
Papua New Guinea|Paraguay|Peru|Philippines|Pitcairn Islands|Poland|Portugal|Puerto Rico|Qatar|Republic of Korea|
Reunion|Romania|Russian Federation|Rwanda|Saint Barthelemy|Saint Helena|Saint Kitts and Nevis|Saint Lucia|
Saint Martin|Saint Pierre and Miquelon|Saint Vincent and the Grenadines|Samoa|San Marino|Sao Tome and Principe|
Saudi Arabia|Senegal|Serbia|Seychelles|Sierra Leone|Singapore|Sint Maarten|Slovakia|Slovenia|Solomon Islands|
Somalia|South Africa|South Georgia and the South Sandwich Islands|South Sudan|Spain|Sri Lanka|Sudan|Suriname|
Svalbard & Jan Mayen Islands|Sweden|Switzerland|Syrian Arab Republic|Taiwan|Tajikistan|Tanzania|Thailand|
Timor-Leste|Togo|Tokelau|Tonga|Trinidad and Tobago|Tunisia|Turkey|Turkmenistan|Turks and Caicos Islands|Tuvalu|
Uganda|Ukraine|United Arab Emirates|United Kingdom|United States Minor Outlying Islands|United States of America|
United States Virgin Islands|Uruguay|Uzbekistan|Vanuatu|Venezuela|Vietnam|Wallis and Futuna|Western Sahara|Yemen|
Zambia|Zimbabwe
"""
COUNTRIES = tuple(_COUNTRIES.replace("\n", "").split("|"))
# The countries with most events, for distributions in which countries differ in size.
_LARGE = """
United States of America|India|Brazil|Indonesia|Mexico|Germany|United Kingdom|France|Japan|Philippines|Turkey|Italy|
Spain|Vietnam|Thailand|Canada|Poland|Argentina|Colombia|Egypt|Nigeria|South Africa|Netherlands|Australia
"""
LARGE = tuple(_LARGE.replace("\n", "").split("|"))
_BY_SIZE = (*LARGE, *(name for name in COUNTRIES if name not in LARGE))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Two halves of an invented word each: 30 x 24 given names, 36 x 28 family names.
_GIVEN_HEADS = _words(
    "Alv Bre Cal Dar Eld Fen Gar Hal Ild Jor Kel Lor Mav Nev Orl Per Quil Ros Sel Tor Ulv Ven Wil Xan Yor Zel "
    "Bram Thal Gwen Stel"
)
_GIVEN_TAILS = _words("a an ara ard eth ia ic ine is on or us wen yn e o enna en ona ora amir elin ander i")
_FAMILY_HEADS = _words(
    "Ash Bar Bel Brun Corv Dall Drum Elk Fal Fer Grav Hald Hol Ing Jas Kov Lind Marl Mor Nord Oster Pell Quar "
    "Rav Schol Stav Tarn Thorn Ulm Vand Wex Wold Yarr Zab Kess Brand"
)
_FAMILY_TAILS = _words(
    "berg by cott den ek er feld ford garth gren holt ick ing inski ley low man mark mont rick sen shaw stead "
    "strom ton vik wald wick"
)
_BEFORE_NAME = ("Dr.", "Mr.", "Mrs.", "Ms.", "Miss")
_AFTER_NAME = ("Jr.", "Sr.", "I", "II", "III", "IV", "V", "MD", "DDS", "PhD", "DVM")

_BEFORE_CITY = ("North", "East", "South", "West", "New", "Lake", "Port", "Fort")
_CITY_TAILS = _words(
    "ton town land ville burg burgh borough bury field fort furt haven mouth port side shire stad view chester "
    "cester dale wood"
)

_QUALITIES = _words(
    "Classic Compact Durable Elegant Everyday Folding Gentle Handmade Improved Lightweight Luminous Magnificent "
    "Modern Original Padded Polished Portable Practical Recycled Refurbished Rustic Seasonal Sleek Sturdy "
    "Traditional Universal Vintage Waterproof"
)
_MATERIALS = _words("Bamboo Brass Ceramic Copper Cotton Glass Granite Leather Linen Marble Oak Paper Rubber Silk Steel")
_GOODS = _words(
    "Backpack Basket Blanket Bottle Bowl Candle Chair Clock Cushion Desk Gloves Hat Headset Kettle Keyboard Lamp "
    "Mirror Mug Notebook Pillow Plate Scarf Shelf Shoes Soap Speaker Table Towel Umbrella Wallet"
)


def country(rng: Random) -> str:
    """Return a real country or territory, all equally likely."""
    return rng.choice(COUNTRIES)


def country_by_size(rng: Random) -> str:
    """Return a real country or territory, with the probabilities of Zipf's law."""
    return _BY_SIZE[int((len(_BY_SIZE) + 1) ** rng.random()) - 1]


def _given(rng: Random) -> str:
    return rng.choice(_GIVEN_HEADS) + rng.choice(_GIVEN_TAILS)


def _family(rng: Random) -> str:
    return rng.choice(_FAMILY_HEADS) + rng.choice(_FAMILY_TAILS)


def _surname(rng: Random) -> str:
    return f"{_family(rng)}-{_family(rng)}" if rng.random() < 0.06 else _family(rng)


def person(rng: Random) -> str:
    """Return an invented full name, such as "Dr. Selora Thornwick", 15 characters on average."""
    name = f"{_given(rng)} {_surname(rng)}"
    if rng.random() < 0.10:
        name = f"{rng.choice(_BEFORE_NAME)} {name}"
    if rng.random() < 0.09:
        name = f"{name} {rng.choice(_AFTER_NAME)}"
    return name


def username(rng: Random) -> str:
    """Return an invented account name, such as "Kelara_Novberg42" or "Toris7"."""
    number = str(rng.randrange(100))
    if rng.random() < 0.3:
        return _given(rng) + number
    name = f"{_given(rng)}{rng.choice('._')}{_surname(rng)}"
    return name + number if rng.random() < 0.5 else name


def city(rng: Random) -> str:
    """Return an invented city, such as "Port Vandfeld" or "Halethhaven"."""
    stem = rng.choice((_given, _family))(rng)
    if rng.random() < 0.45:
        return f"{rng.choice(_BEFORE_CITY)} {stem}"
    return stem + rng.choice(_CITY_TAILS)


def item(rng: Random) -> str:
    """Return an invented item, such as "Polished Copper Kettle"."""
    return f"{rng.choice(_QUALITIES)} {rng.choice(_MATERIALS)} {rng.choice(_GOODS)}"


def price(rng: Random, lowest: int, highest: int) -> str:
    """Return a price as a decimal string. Like prices in shops, most end in 9 or 5."""
    cent = rng.choice("9999955500") if rng.random() < 0.9 else rng.choice("0123456789")
    return f"{rng.randrange(lowest, highest)}.{rng.randrange(10)}{cent}"
