import pytest

from storage import S3Address, StorageConfigurationError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("s3://pictures", S3Address(bucket="pictures")),
        ("s3://pictures/", S3Address(bucket="pictures")),
        ("S3://my.pictures/a/b-c_d.e/", S3Address(bucket="my.pictures", prefix="a/b-c_d.e")),
        ("s3://pictures/..a/b..", S3Address(bucket="pictures", prefix="..a/b..")),
        ("s3://pictures?region=eu-central-1", S3Address(bucket="pictures", region="eu-central-1")),
        (
            "s3://pictures/x?endpoint=http://minio:9000/&allow_http=true",
            S3Address(bucket="pictures", prefix="x", endpoint="http://minio:9000", allow_http=True),
        ),
        (
            "s3://pictures?endpoint=https%3A%2F%2Fstore.example%2Fs3&style=path&allow_http=false&region=auto",
            S3Address(bucket="pictures", endpoint="https://store.example/s3", region="auto"),
        ),
        ("s3://pictures?style=virtual", S3Address(bucket="pictures", virtual_host=True)),
    ],
)
def test_what_an_address_says(url: str, address: S3Address) -> None:
    assert S3Address.parse(url) == address


@pytest.mark.parametrize(
    ("query", "endpoint"),
    [
        ("", None),
        ("?style=virtual", None),
        ("?endpoint=https://store.example:9000/s3", "https://store.example:9000/s3"),
        ("?endpoint=https://store.example:9000/s3&style=virtual", "https://pictures.store.example:9000/s3"),
    ],
)
def test_where_the_bucket_is_named(query: str, endpoint: str | None) -> None:
    assert S3Address.parse(f"s3://pictures{query}").request_endpoint == endpoint


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("s3:pictures", "it is not s3://"),
        ("s3://", "the bucket's name must have"),
        ("s3:///prefix", "the bucket's name must have"),
        ("s3://ab", "the bucket's name must have"),
        ("s3://Pictures", "the bucket's name must have"),
        ("s3://pictures:9000", "the bucket's name must have"),
        ("s3://pictures\n", "the bucket's name must have"),
        ("s3://pictures/a//b", "the prefix must have"),
        ("s3://pictures//", "the prefix must have"),
        ("s3://pictures/../b", "the prefix must have"),
        ("s3://pictures/a/.", "the prefix must have"),
        ("s3://pictures/a b", "the prefix must have"),
        ("s3://pictures/a%20b", "the prefix must have"),
        ("s3://pictures/\n", "the prefix must have"),
        ("s3://pictures#top", "'#'"),
        ("s3://pictures?region=eu#top", "'#'"),
        ("s3://pictures?region", "come name=value"),
        ("s3://pictures?region=", "come name=value"),
        ("s3://pictures?region=eu&", "come name=value"),
        ("s3://pictures?endpont=https://store.example", "'endpont' is unknown; known are endpoint, region, allow_http"),
        ("s3://pictures?region=eu&region=us", "'region' is there twice"),
        ("s3://pictures?region=EU_1", "'region' must have"),
        ("s3://pictures?allow_http=yes", "'allow_http' must be false or true"),
        ("s3://pictures?style=host", "'style' must be path or virtual"),
        ("s3://pictures?endpoint=http://minio:9000", "allow it by allow_http=true"),
        ("s3://pictures?endpoint=minio:9000", "'endpoint' must be http"),
        ("s3://pictures?endpoint=https://", "'endpoint' must be http"),
        ("s3://pictures?endpoint=https://store.example?x", "'endpoint' must be http"),
        ("s3://pictures?endpoint=https://store.example:99999", "'endpoint' is not a URL"),
        ("s3://pictures?endpoint=https://store.example/%0a", "white space"),
        ("s3://pictures?endpoint=https://store.example/%00", "white space"),
    ],
)
def test_what_cannot_be_used(url: str, problem: str) -> None:
    with pytest.raises(StorageConfigurationError) as caught:
        S3Address.parse(url)
    assert problem in str(caught.value)
    assert "accepted is s3://bucket/prefix?endpoint=https://host:port&region=name" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:s3cr3t@pictures",
        "s3://AKIA:s3cr3t/x@pictures/y",
        "s3://AKIA:s3cr3t?x@pictures",
        "s3://AKIA:s3cr3t#x@pictures",
        "s3://s3cr3t@pictures?region=eu",
        "s3://AKIA:s3cr3t",
        "s3://pictures?secret_access_key=s3cr3t",
        "s3://pictures?S3cr3ts3cr3t=",
        "s3://pictures?s3cr3t",
        "s3://pictures?endpoint=https://AKIA:s3cr3t@store.example",
        "s3://pictures?endpoint=https://AKIA:s3cr3t/x@store.example",
        "s3://pictures?endpoint=https://AKIA:s3cr3t[@store.example",
    ],
)
def test_credentials_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(StorageConfigurationError) as caught:
        S3Address.parse(url)
    assert "s3cr3t" not in str(caught.value).lower()
    assert caught.value.__cause__ is None
